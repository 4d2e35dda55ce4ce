"""The instance statement (FORMATS section 3): which key, on what hardware, runs which software, where.

The evidence binds the payload without `submods` (`claims_bytes`, `binding`); `submods` then names the evidence by digest. Session
statements refer to the instance by `profile_digest`, which leaves out what differs between renewals.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rlu_attestation import canonical, jose
from rlu_attestation.channel import Channel
from rlu_attestation.claims import Members
from rlu_attestation.encoding import b64u
from rlu_attestation.errors import Malformed
from rlu_attestation.gpus import Gpus
from rlu_attestation.mentions import CanaryMention, LicenceMention
from rlu_attestation.models import FurtherModel, ModelSignature, Software, model_json, read_further
from rlu_attestation.statements import NONCE_SIZES

INSTANCE_PROFILE = "tag:rlu.internal,2026:instance#1"
DEBUG_STATES = (
    "enabled",
    "disabled",
    "disabled-since-boot",
    "disabled-permanently",
    "disabled-fully-and-permanently",
)
KEY_HARDWARE = ("azure-vtpm", "gcp-vtpm", "nitro", "nitrotpm", "none", "sev-snp", "tdx", "tpm2")
"""Kinds of evidence that can speak for the instance key; `none` is a software key."""
POSTURE_ROLES = ("attestor", "engine", "gateway")
MAX_POSTURE = 64

PostureValue = bool | int | str


@dataclass(frozen=True, slots=True)
class Predecessor:
    """The final head of the instance that this one replaces."""

    issuer: str
    head: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceClaims:
    """All claims of an instance statement except `submods`."""

    jwk: dict[str, str]
    issued_at: int
    expires_at: int
    nonce: bytes | None
    oemboot: bool
    dbgstat: str
    key_hardware: str
    key_created: int
    """When the attestor made the key, as it says; seconds since the epoch."""
    tls: Channel
    model_name: str
    model_manifest: bytes
    engine: Software
    """`digest` is that of the arguments."""
    gateway: Software
    """`digest` is that of the image."""
    hardware_profile: str
    lock: dict[str, dict[str, PostureValue]]
    region: str
    boundary: str
    site: str
    start_count: int
    gpus: Gpus | None = None
    """`None`: the model is served without any."""
    predecessor: Predecessor | None = None
    canary: CanaryMention | None = None
    """`None`: no canary test was reported to this attestor."""
    licence: LicenceMention | None = None
    """`None`: it has none, and needs none."""
    further_models: tuple[FurtherModel, ...] = ()
    """Empty where one model is served. No two models have one name."""
    model_signature: ModelSignature | None = None
    """`None`: not stated."""
    evidence: dict[str, bytes] = field(default_factory=dict)
    """`submods`: evidence kind to SHA-256 of the item's bytes; empty until evidence was collected."""

    @property
    def models(self) -> tuple[FurtherModel, ...]:
        """All models, the first one first."""
        first = FurtherModel(self.model_name, self.model_manifest, self.engine, self.model_signature)
        return (first, *self.further_models)

    @property
    def ueid(self) -> str:
        return ueid(jose.thumbprint(self.jwk))

    @property
    def issuer(self) -> str:
        return issuer(jose.thumbprint(self.jwk))

    def to_json(self) -> dict[str, Any]:
        """The payload as an object."""
        payload: dict[str, Any] = {
            "cnf": {"jwk": dict(self.jwk)},
            "dbgstat": self.dbgstat,
            "eat_profile": INSTANCE_PROFILE,
            "exp": self.expires_at,
            "iat": self.issued_at,
            "iss": self.issuer,
            "oemboot": self.oemboot,
            "rlu_boundary": self.boundary,
            "rlu_engine": self.engine.to_json("arguments_sha256"),
            "rlu_gateway": self.gateway.to_json("image_sha256"),
            "rlu_hardware": {"profile": self.hardware_profile},
            "rlu_key": {"created": self.key_created, "hardware": self.key_hardware},
            "rlu_lock": {role: dict(posture) for role, posture in self.lock.items()},
            "rlu_log": {"start_count": self.start_count},
            "rlu_model": model_json(self.model_name, self.model_manifest, self.model_signature),
            "rlu_region": self.region,
            "rlu_site": self.site,
            "rlu_tls": self.tls.to_json(),
            "ueid": self.ueid,
        }
        if self.nonce is not None:
            payload["eat_nonce"] = b64u(self.nonce)
        if self.further_models:
            payload["rlu_further_models"] = [one.to_json() for one in self.further_models]
        if self.gpus is not None:
            payload["rlu_gpus"] = self.gpus.to_json()
        if self.predecessor is not None:
            payload["rlu_log"]["predecessor"] = {
                "head": b64u(self.predecessor.head),
                "iss": self.predecessor.issuer,
            }
        if self.canary is not None:
            payload["rlu_canary_report"] = self.canary.to_json()
        if self.licence is not None:
            payload["rlu_licence"] = self.licence.to_json()
        if self.evidence:
            payload["submods"] = {
                kind: ["DIGEST", ["sha-256", b64u(digest)]] for kind, digest in self.evidence.items()
            }
        return payload

    def encode(self) -> bytes:
        """The JWS payload."""
        return canonical.encode(self.to_json())

    @classmethod
    def parse(cls, payload: bytes) -> InstanceClaims:
        """Raises Malformed for anything but a canonical instance statement payload."""
        with Members(canonical.decode(payload), "instance statement") as members:
            members.exactly("eat_profile", INSTANCE_PROFILE)
            with members.object("cnf") as inner:
                jwk = jose.public_jwk(jose.public_key(inner.mapping("jwk")))
            members.exactly("iss", issuer(jose.thumbprint(jwk)))
            members.exactly("ueid", ueid(jose.thumbprint(jwk)))
            with members.object("rlu_key") as inner:
                key_created = inner.count("created")
                key_hardware = inner.choice("hardware", KEY_HARDWARE)
            with members.object("rlu_model") as inner:
                model_name, model_manifest = inner.text("name"), inner.binary("manifest_sha256", 32)
                model_signature = ModelSignature.read(inner)
            with members.object("rlu_hardware") as inner:
                hardware_profile = inner.text("profile")
            further_models = (
                read_further(members, "rlu_further_models", model_name)
                if "rlu_further_models" in members
                else ()
            )
            start_count, predecessor = _read_log(members)
            return cls(
                jwk=jwk,
                issued_at=members.count("iat"),
                expires_at=members.count("exp"),
                nonce=members.optional(members.binary, "eat_nonce", *NONCE_SIZES),
                oemboot=members.flag("oemboot"),
                dbgstat=members.choice("dbgstat", DEBUG_STATES),
                key_hardware=key_hardware,
                key_created=key_created,
                gpus=Gpus.read(members, "rlu_gpus") if "rlu_gpus" in members else None,
                tls=Channel.read(members, "rlu_tls"),
                model_name=model_name,
                model_manifest=model_manifest,
                model_signature=model_signature,
                further_models=further_models,
                engine=Software.read(members, "rlu_engine", "arguments_sha256"),
                gateway=Software.read(members, "rlu_gateway", "image_sha256"),
                hardware_profile=hardware_profile,
                lock=_read_lock(members),
                region=members.text("rlu_region"),
                boundary=members.text("rlu_boundary"),
                site=members.text("rlu_site"),
                start_count=start_count,
                predecessor=predecessor,
                canary=CanaryMention.read(members, "rlu_canary_report")
                if "rlu_canary_report" in members
                else None,
                licence=LicenceMention.read(members, "rlu_licence") if "rlu_licence" in members else None,
                evidence=_read_submods(members) if "submods" in members else {},
            )


def ueid(thumbprint: bytes) -> str:
    """RFC 9711 section 4.2.1, type 0x01, over the key's thumbprint."""
    return b64u(b"\x01" + thumbprint)


def issuer(thumbprint: bytes) -> str:
    """The instance's name in `iss`."""
    return f"urn:rlu:instance:{ueid(thumbprint)}"


def claims_bytes(payload: Mapping[str, Any]) -> bytes:
    """What evidence binds: the payload without `submods`."""
    return canonical.encode({name: value for name, value in payload.items() if name != "submods"})


def binding(claims: bytes) -> bytes:
    """H("rlu/instance/v1" ‖ claims bytes)."""
    return hashlib.sha256(b"rlu/instance/v1" + claims).digest()


def profile_digest(payload: Mapping[str, Any]) -> bytes:
    """Digest of what stays the same between renewals; session statements carry it."""
    varying = ("submods", "eat_nonce", "iat", "exp", "rlu_log", "rlu_canary_report", "rlu_licence")
    stable = canonical.encode({name: value for name, value in payload.items() if name not in varying})
    return hashlib.sha256(b"rlu/instance-profile/v1" + stable).digest()


def arguments_digest(arguments: list[str]) -> bytes:
    """H of the canonical JSON object {"arguments": [...]}."""
    return hashlib.sha256(canonical.encode({"arguments": arguments})).digest()


def _read_log(members: Members) -> tuple[int, Predecessor | None]:
    with members.object("rlu_log") as log:
        start_count = log.count("start_count")
        predecessor = None
        if "predecessor" in log:
            with log.object("predecessor") as inner:
                predecessor = Predecessor(inner.text("iss"), inner.binary("head"))
    return start_count, predecessor


def _read_lock(members: Members) -> dict[str, dict[str, PostureValue]]:
    lock: dict[str, dict[str, PostureValue]] = {}
    with members.object("rlu_lock") as roles:
        for role in POSTURE_ROLES:
            posture = roles.optional(roles.mapping, role)
            if posture is None:
                continue
            if len(posture) > MAX_POSTURE or not all(
                isinstance(v, (bool, int, str)) for v in posture.values()
            ):
                raise Malformed(
                    "statement.claims",
                    f"rlu_lock: {role} must be a flat object of at most {MAX_POSTURE} values",
                )
            lock[role] = posture
    return lock


def _read_submods(members: Members) -> dict[str, bytes]:
    evidence: dict[str, bytes] = {}
    for kind, value in members.mapping("submods").items():
        with Members({"digest": _detached(value)}, f"submods: {kind}") as inner:
            evidence[kind] = inner.binary("digest", 32)
    return evidence


def _detached(value: object) -> object:
    match value:
        case ["DIGEST", ["sha-256", digest]]:
            return digest
    raise Malformed("statement.claims", 'a submodule must be ["DIGEST", ["sha-256", digest]]')
