"""What the attestor is told to state: files that the launcher writes below `<runtime>/facts/`, and the gateway's greeting.

    instance.json   {"model":{"name":…,"manifest_sha256":…,"signature":{"result":…,"signer":…?}?},
                     "engine":{"name":…,"version":…,"arguments_sha256":…}, "further_models":[{"model":…,"engine":…}, …]?,
                     "gateway":{"image_sha256":…}?, "hardware":{"profile":…}, "region":…, "boundary":…, "site":…}
    engine.json     posture measured inside the engine's process: a flat object of booleans, integers and short strings
    attestor.json   the same of this process

Digests are base64url of 32 bytes. Nothing in these files may differ between two starts of the same deployment (no process ids, no times):
whatever changes here changes the instance, and live sessions of the old one are closed. All of it is *asserted* (design P8): whoever can
write these files can make this attestor state anything about software, but nothing about the hardware.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from rlu_attestation.channel import Channel
from rlu_attestation.encoding import unb64u
from rlu_attestation.errors import Malformed
from rlu_attestation.gpus import Gpus
from rlu_attestation.instance import InstanceClaims, PostureValue, Predecessor
from rlu_attestation.mentions import CanaryMention, LicenceMention
from rlu_attestation.models import FurtherModel, ModelSignature, Software
from rlu_server.attestor.errors import NotReady
from rlu_server.attestor.messages import Hello, Posture

MAX_FILE = 64 * 1024
UNMEASURED: dict[str, PostureValue] = {"lock": "unmeasured"}
"""Stands for the posture of a process whose launcher left none: said openly, for a policy to refuse."""

Text = Annotated[str, Meta(min_length=1, max_length=256)]
DigestText = Annotated[str, Meta(min_length=43, max_length=43, pattern="^[A-Za-z0-9_-]{43}$")]
T = TypeVar("T")


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class SignatureFacts(_Strict, frozen=True):
    result: Literal["failed", "unsigned", "verified"]
    signer: DigestText | None = None

    def __post_init__(self) -> None:
        if (self.result == "verified") != (self.signer is not None):
            raise ValueError("a signer is named exactly where the signature was verified")


class ModelFacts(_Strict, frozen=True):
    name: Text
    manifest_sha256: DigestText
    signature: SignatureFacts | None = None


class EngineFacts(_Strict, frozen=True):
    name: Text
    version: Text
    arguments_sha256: DigestText


class ServedFacts(_Strict, frozen=True):
    model: ModelFacts
    engine: EngineFacts


class ImageFacts(_Strict, frozen=True):
    image_sha256: DigestText | None = None


class HardwareFacts(_Strict, frozen=True):
    profile: Text


class InstanceFacts(_Strict, frozen=True):
    """`instance.json`."""

    model: ModelFacts
    engine: EngineFacts
    """The engine of this model; `further_models` has the others."""
    hardware: HardwareFacts
    region: Text
    boundary: Text
    site: Text
    gateway: ImageFacts = ImageFacts()
    further_models: list[ServedFacts] = []


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything below `<runtime>/facts/` at one moment."""

    instance: InstanceFacts
    engine_posture: dict[str, PostureValue]
    attestor_posture: dict[str, PostureValue]


@dataclass(frozen=True, slots=True)
class Key:
    """What the instance statement says of the key itself; constant while the attestor runs."""

    jwk: dict[str, str]
    hardware: str
    created: int
    start_count: int
    predecessor: Predecessor | None


def read(directory: Path) -> Facts:
    """Read the facts.

    Raises:
        NotReady: `instance.json` is absent, or a file is not of the form above.
    """
    instance = _read(directory / "instance.json", InstanceFacts)
    if instance is None:
        raise NotReady(
            "facts.missing", f"{directory / 'instance.json'} is not there yet; the launcher writes it"
        )
    engine = _read(directory / "engine.json", Posture)
    attestor = _read(directory / "attestor.json", Posture)
    return Facts(
        instance,
        UNMEASURED if engine is None else engine,
        UNMEASURED if attestor is None else attestor,
    )


def channel(hello: Hello) -> Channel:
    """The gateway's TLS key as a claim.

    Raises:
        Malformed: a TLS origin without a digest, or plain text with one.
    """
    if (hello.tls_origin == "plaintext") != (hello.tls_spki_sha256 is None):
        raise Malformed("hello.tls", "a TLS key has an SPKI digest, plain text has none")
    return Channel(hello.tls_origin, hello.tls_spki_sha256)


def claims(
    key: Key,
    facts: Facts,
    hello: Hello,
    nonce: bytes | None,
    now: int,
    ttl_s: int,
    oemboot: bool,
    gpus: Gpus | None = None,
    canary: CanaryMention | None = None,
    licence: LicenceMention | None = None,
) -> InstanceClaims:
    """The instance statement's claims, `submods` still empty."""
    instance = facts.instance
    image = instance.gateway.image_sha256
    return InstanceClaims(
        jwk=key.jwk,
        issued_at=now,
        expires_at=now + ttl_s,
        nonce=nonce,
        oemboot=oemboot,
        dbgstat="enabled",
        key_hardware=key.hardware,
        key_created=key.created,
        tls=channel(hello),
        model_name=instance.model.name,
        model_manifest=unb64u(instance.model.manifest_sha256),
        model_signature=_signature(instance.model.signature),
        engine=_engine(instance.engine),
        further_models=tuple(
            FurtherModel(
                one.model.name,
                unb64u(one.model.manifest_sha256),
                _engine(one.engine),
                _signature(one.model.signature),
            )
            for one in instance.further_models
        ),
        gateway=Software("rlu", hello.gateway_version, None if image is None else unb64u(image)),
        hardware_profile=instance.hardware.profile,
        lock={
            "attestor": facts.attestor_posture,
            "engine": facts.engine_posture,
            "gateway": dict(hello.posture),
        },
        region=instance.region,
        boundary=instance.boundary,
        site=instance.site,
        start_count=key.start_count,
        gpus=gpus,
        predecessor=key.predecessor,
        canary=canary,
        licence=licence,
    )


def _signature(facts: SignatureFacts | None) -> ModelSignature | None:
    if facts is None:
        return None
    return ModelSignature(facts.result, None if facts.signer is None else unb64u(facts.signer))


def _engine(facts: EngineFacts) -> Software:
    return Software(facts.name, facts.version, unb64u(facts.arguments_sha256))


def _read(path: Path, form: type[T]) -> T | None:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise NotReady("facts.unreadable", f"{path}: {error.strerror}") from error
    try:
        if len(data) > MAX_FILE:
            raise msgspec.ValidationError(f"longer than {MAX_FILE} bytes")
        return msgspec.json.decode(data, type=form)
    except msgspec.MsgspecError as error:
        raise NotReady("facts.malformed", f"{path}: {error}") from error
