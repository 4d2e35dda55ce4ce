"""The models that an instance statement names, and the programs that serve them (FORMATS section 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlu_attestation.claims import Members
from rlu_attestation.encoding import b64u
from rlu_attestation.errors import Malformed

SIGNATURE_RESULTS = ("failed", "unsigned", "verified")
MAX_FURTHER = 63


@dataclass(frozen=True, slots=True)
class Software:
    """A program: its name, version and, where known, a digest (`None`: not stated)."""

    name: str
    version: str
    digest: bytes | None = None

    def to_json(self, digest_name: str) -> dict[str, Any]:
        value = {"name": self.name, "version": self.version}
        return value if self.digest is None else {**value, digest_name: b64u(self.digest)}

    @classmethod
    def read(cls, members: Members, name: str, digest_name: str) -> Software:
        with members.object(name) as inner:
            return cls(
                inner.text("name"), inner.text("version"), inner.optional(inner.binary, digest_name, 32)
            )


@dataclass(frozen=True, slots=True)
class ModelSignature:
    """What came of verifying a model's signature before it was loaded, and whose it was if it was good."""

    result: str
    signer: bytes | None = None
    """SHA-256 of the SubjectPublicKeyInfo of the key; there exactly when `result` is `verified`."""

    def to_json(self) -> dict[str, Any]:
        value = {"result": self.result}
        return value if self.signer is None else {**value, "signer": b64u(self.signer)}

    @classmethod
    def read(cls, members: Members) -> ModelSignature | None:
        """The member `signature` of an object that is a model."""
        if "signature" not in members:
            return None
        with members.object("signature") as inner:
            result = inner.choice("result", SIGNATURE_RESULTS)
            return cls(result, inner.binary("signer", 32) if result == "verified" else None)


@dataclass(frozen=True, slots=True)
class FurtherModel:
    """A model beside the first, and its engine, whose `digest` is that of the arguments."""

    name: str
    manifest: bytes
    engine: Software
    signature: ModelSignature | None = None
    """`None`: not stated."""

    def to_json(self) -> dict[str, Any]:
        engine = self.engine.to_json("arguments_sha256")
        return {"engine": engine, **model_json(self.name, self.manifest, self.signature)}


def model_json(name: str, manifest: bytes, signature: ModelSignature | None) -> dict[str, Any]:
    """The object that is a model."""
    value = {"manifest_sha256": b64u(manifest), "name": name}
    return value if signature is None else {**value, "signature": signature.to_json()}


def read_further(members: Members, name: str, first: str) -> tuple[FurtherModel, ...]:
    """The models beside the one called `first`. Raises Malformed where two have one name."""
    entries = members.value(name)
    if not isinstance(entries, list) or not 0 < len(entries) <= MAX_FURTHER:
        raise Malformed("statement.claims", f"{name} must be an array of 1 to {MAX_FURTHER} models")
    found = []
    for entry in entries:
        with Members(entry, name) as inner:
            model, manifest = inner.text("name"), inner.binary("manifest_sha256", 32)
            engine = Software.read(inner, "engine", "arguments_sha256")
            found.append(FurtherModel(model, manifest, engine, ModelSignature.read(inner)))
    if len({first, *(one.name for one in found)}) != len(found) + 1:
        raise Malformed("statement.claims", f"{name}: two models have one name")
    return tuple(found)
