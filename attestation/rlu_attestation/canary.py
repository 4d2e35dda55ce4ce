"""The report of a canary test (FORMATS section 15): marked prompts went through a deployment, and what was left was searched for.

It has numbers, names from the lists below, and digests of software, and no member that could carry anything else: the attestor composes it
from these fields and says itself what they add up to, so that nobody gets words of his own signed. What is counted is asserted by whoever
ran the test; the signature says which instance took it over, and when.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlu_attestation import canonical, jose
from rlu_attestation.claims import Members
from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.errors import Malformed, RluError, Untrusted
from rlu_attestation.instance import issuer
from rlu_attestation.mentions import CANARY_RESULTS, CanaryMention
from rlu_attestation.models import Software

TYPE = "rlu-canary-report+jwt"
MAX_REPORT = 32 * 1024
_ENCODING = "canary.encoding"

EXCHANGES = (
    "chat", "chat_stream", "chat_system", "chat_tools", "chat_returned", "chat_returned_stream", "chat_tool_returned",
    "completions", "completions_stream", "completions_echo", "responses", "responses_stream", "responses_tools",
    "messages", "messages_stream", "messages_tools", "count_tokens", "embeddings",
    "headers", "path", "query", "method", "api_key", "model_name", "session_fields",
    "bad_json", "bad_utf8", "bad_field", "bad_role", "bad_tool", "refused_field", "media_url", "too_long",
    "oversize_declared", "oversize_chunked",
    "abort_headers", "abort_upload", "abort_waiting", "abort_stream", "load",
)  # fmt: skip
"""How marked content is sent."""
FAULTS = (
    "kill_engine", "kill_gateway", "kill_attestor", "kill_supervisor", "tpm_lost", "scratch_full", "disk_full", "engine_memory",
    "terminate",
)  # fmt: skip
"""What is broken meanwhile."""
PLACES = (
    "disk", "state", "output", "runtime", "temporary", "home", "shared_memory", "system_v", "deleted_files", "file_systems",
    "system_logs", "journal", "kernel_log", "swap", "core_dumps", "log_export", "otlp_export", "metrics", "traces",
)  # fmt: skip
"""Where is searched."""
UNPLANTED = frozenset({"journal", "kernel_log", "swap"})
"""Where no leak is planted, because it would stay there for good. Everywhere else a search that was given nothing to find shows nothing."""


@dataclass(frozen=True, slots=True)
class Place:
    """What was done at one place.

    Attributes:
        searched: False: it could not be, or not all of it.
        items: files, devices or answers that were read.
        planted: leaks that were put there on purpose, in every form, and `found` of them.
        leaks: findings that were not put there.
    """

    searched: bool
    items: int
    size: int
    planted: int
    found: int
    leaks: int

    def to_json(self) -> dict[str, Any]:
        return {
            "bytes": self.size,
            "found": self.found,
            "items": self.items,
            "leaks": self.leaks,
            "planted": self.planted,
            "searched": self.searched,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What a test found; what an attestor is asked to take over.

    Attributes:
        began: seconds since the epoch, as is `ended`.
        seed: of the schedule of faults.
        tokens: the model's token ids of the markers were looked for too.
        markers: that were sent; `returned`: exchanges whose answer held one, `forms`: in which each is looked for.
        exchanges: how often each kind was made; `faults`: likewise.
        engine: `digest` is that of the arguments.
    """

    began: int
    ended: int
    seed: int
    markers: int
    returned: int
    forms: int
    tokens: bool
    exchanges: Mapping[str, int]
    faults: Mapping[str, int]
    places: Mapping[str, Place]
    model_manifest: bytes
    engine: Software
    gateway: Software

    @property
    def result(self) -> str:
        """`leak`; `incomplete`: nothing was found, and something was not done, not searched or not proven to be searched; `clean`."""
        if any(place.leaks for place in self.places.values()):
            return "leak"
        searched = all(
            place.searched and place.found == place.planted and (place.planted or name in UNPLANTED)
            for name, place in self.places.items()
        )
        done = (
            self.markers
            and self.returned
            and self.tokens
            and all(self.exchanges.get(name) for name in EXCHANGES)
        )
        broken = all(self.faults.get(name) for name in FAULTS)
        complete = all(name in self.places for name in PLACES)
        return "clean" if searched and done and broken and complete else "incomplete"

    def to_json(self) -> dict[str, Any]:
        """All members but those of the signer."""
        return {
            "rlu_canary": {
                "began": self.began,
                "ended": self.ended,
                "exchanges": dict(self.exchanges),
                "faults": dict(self.faults),
                "forms": self.forms,
                "markers": self.markers,
                "places": {name: place.to_json() for name, place in self.places.items()},
                "result": self.result,
                "returned": self.returned,
                "seed": self.seed,
                "tokens": self.tokens,
            },
            "rlu_engine": {
                "arguments_sha256": b64u(self.engine.digest or b""),
                "name": self.engine.name,
                "version": self.engine.version,
            },
            "rlu_gateway": {"name": self.gateway.name, "version": self.gateway.version},
            "rlu_model": {"manifest_sha256": b64u(self.model_manifest)},
        }

    @classmethod
    def read(cls, value: object) -> Findings:
        """From `to_json`. Raises Malformed for anything else, a wrong result included."""
        with Members(value, "canary report") as members:
            return _read(members)


@dataclass(frozen=True, slots=True)
class CanaryReport:
    """Findings that an instance key took over at a time."""

    jwk: dict[str, str]
    issued_at: int
    findings: Findings

    @property
    def issuer(self) -> str:
        return issuer(jose.thumbprint(self.jwk))

    def signing_input(self) -> bytes:
        """The ASCII bytes whose SHA-256 the key signs; `jose.jws_assemble` makes the report of them."""
        payload = {
            **self.findings.to_json(),
            "cnf": {"jwk": dict(self.jwk)},
            "iat": self.issued_at,
            "iss": self.issuer,
        }
        return f"{b64u(_header(jose.thumbprint(self.jwk)))}.{b64u(canonical.encode(payload))}".encode("ascii")


def mention(text: str) -> CanaryMention:
    """What an instance statement says of a report.

    Raises:
        Malformed, Untrusted: as `verify`.
    """
    report = verify(text)
    return CanaryMention(digest(text), report.issued_at, report.findings.result)


def digest(text: str) -> bytes:
    """Of the report's characters, which an instance statement names."""
    return hashlib.sha256(text.encode("ascii")).digest()


def verify(text: str) -> CanaryReport:
    """A report that is signed by the key it says it is of. Whose key that is, is for an instance statement to show.

    Raises:
        Malformed: `canary.encoding`.
        Untrusted: `canary.signature`.
    """
    try:
        report, signing_input, signature = _parse(text)
        key = jose.public_key(report.jwk)
    except RluError as error:
        raise Malformed(_ENCODING, error.message) from error
    try:
        jose.verify_es256(key, signing_input, signature)
    except Untrusted as error:
        raise Untrusted("canary.signature", "the key that this report names did not sign it") from error
    return report


def peek(text: str) -> CanaryReport:
    """What a report says, without asking who signed it: for people to read.

    Raises:
        Malformed: `canary.encoding`.
    """
    try:
        return _parse(text)[0]
    except RluError as error:
        raise Malformed(_ENCODING, error.message) from error


def _parse(text: str) -> tuple[CanaryReport, bytes, bytes]:
    parts = text.split(".") if len(text) <= MAX_REPORT and text.isascii() else []
    if len(parts) != 3:
        raise Malformed(_ENCODING, "not a compact JWS")
    header, payload, signature = map(unb64u, parts)
    with Members(canonical.decode(payload), "canary report") as members:
        with members.object("cnf") as cnf:
            jwk = cnf.mapping("jwk")
        jose.public_key(jwk)
        report = CanaryReport(jwk, members.count("iat"), _read(members))
        members.exactly("iss", report.issuer)
    if header != _header(jose.thumbprint(jwk)) or len(signature) != jose.SIGNATURE_SIZE:
        raise Malformed(_ENCODING, f'the header must be {{"alg":"ES256","kid":thumbprint,"typ":"{TYPE}"}}')
    return report, f"{parts[0]}.{parts[1]}".encode("ascii"), signature


def _read(members: Members) -> Findings:
    with members.object("rlu_model") as model:
        manifest = model.binary("manifest_sha256", 32)
    with members.object("rlu_engine") as inner:
        engine = Software(inner.text("name"), inner.text("version"), inner.binary("arguments_sha256", 32))
    with members.object("rlu_gateway") as inner:
        gateway = Software(inner.text("name"), inner.text("version"))
    with members.object("rlu_canary") as canary:
        findings = Findings(
            began=canary.count("began"),
            ended=canary.count("ended"),
            seed=canary.count("seed"),
            markers=canary.count("markers"),
            returned=canary.count("returned"),
            forms=canary.count("forms"),
            tokens=canary.flag("tokens"),
            exchanges=_counts(canary, "exchanges", EXCHANGES),
            faults=_counts(canary, "faults", FAULTS),
            places=_places(canary),
            model_manifest=manifest,
            engine=engine,
            gateway=gateway,
        )
        if canary.choice("result", CANARY_RESULTS) != findings.result:
            raise Malformed("statement.claims", "canary report: the result is not what the numbers say")
    return findings


def _counts(members: Members, name: str, allowed: tuple[str, ...]) -> dict[str, int]:
    with members.object(name) as inner:
        return {key: inner.count(key) for key in allowed if key in inner}


def _places(members: Members) -> dict[str, Place]:
    found = {}
    with members.object("places") as places:
        for name in PLACES:
            if name in places:
                with places.object(name) as one:
                    found[name] = Place(
                        searched=one.flag("searched"),
                        items=one.count("items"),
                        size=one.count("bytes"),
                        planted=one.count("planted"),
                        found=one.count("found"),
                        leaks=one.count("leaks"),
                    )
    return found


def _header(kid: bytes) -> bytes:
    return canonical.encode({"alg": "ES256", "kid": b64u(kid), "typ": TYPE})
