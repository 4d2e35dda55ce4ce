"""The bundle: everything one verification needs, in one file (FORMATS section 10).

`parse` accepts no unknown or duplicate key, and decodes base64url, but looks into nothing: statements, receipts and evidence are bytes that
the verifier takes apart step by step. Unlike statements, a bundle is not signed and may be laid out in any way JSON allows.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from rlu_attestation.claims import Members
from rlu_attestation.commitment import KEY_SIZE
from rlu_attestation.encoding import b64u
from rlu_attestation.errors import Malformed, RluError
from rlu_attestation.statements import NONCE_SIZES
from rlu_attestation.strict_json import no_number, unique

T = TypeVar("T")
VERSION = "1"
MAX_BUNDLE = 64 * 1024 * 1024
MAX_EVIDENCE = 16
MAX_EXCHANGES = 65536
COLLATERAL = ("nvidia-rim", "ocsp-response", "tdx-collateral", "x509-crl")
MAX_COLLATERAL = 256
MAX_POLICY_FILES = 256
MAX_CONTINUITY = 16
MAX_COSIGNATURES = 64
_MAX_VALUES = 16 * MAX_EXCHANGES
"""More members and elements than any bundle has, so that a small file cannot become millions of objects in memory."""
_CODE = "bundle.encoding"


@dataclass(frozen=True, slots=True)
class EvidenceItem:
    """One item of evidence, as collected; `kind` is what its sender calls it."""

    kind: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Collateral:
    """What helps to judge evidence and came from elsewhere: a revocation list, an OCSP response, reference values. Each is signed by who
    made it, so it need not be in the statement; `kind` is one of `COLLATERAL`.
    """

    kind: str
    data: bytes


@dataclass(frozen=True, slots=True)
class BundledPolicy:
    """The policy that the bundle's maker appraised by, with the files it names; it counts only for who knows its digest."""

    toml: bytes
    files: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Logged:
    """A statement with its COSE Receipt of inclusion, both as bytes."""

    statement: bytes
    receipt: bytes


@dataclass(frozen=True, slots=True)
class Cosigned:
    """A signed head with a witness's signature line about it (FORMATS section 11.2)."""

    head: bytes
    line: str


@dataclass(frozen=True, slots=True)
class Exchange:
    """A receipt with, where the bundle's maker kept them, the contents it is about."""

    logged: Logged
    request: bytes | None = None
    response: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A well-formed bundle. Nothing in it is verified.

    Attributes:
        statement: the instance statement, a compact JWS.
        channel: SHA-256 of the SubjectPublicKeyInfo of the TLS key, as the bundle's maker saw it.
        roots: SHA-256 fingerprints of the roots that its maker's verification ended in; for readers, nothing trusts them.
        nonce: what the maker says it sent.
        consistency: COSE Receipts of consistency: earlier heads, under which receipts are, to later ones of the same log.
        cosignatures: of witnesses, each with the head of this log that it is on.
        continuity: statements by which earlier keys named their successors (`continuity.py`).
    """

    statement: str
    evidence: tuple[EvidenceItem, ...]
    channel: bytes | None = None
    nonce: bytes | None = None
    session: Logged | None = None
    commitment_key: bytes | None = None
    exchanges: tuple[Exchange, ...] = ()
    close: Logged | None = None
    head: bytes | None = None
    collateral: tuple[Collateral, ...] = ()
    roots: tuple[bytes, ...] = ()
    policy: BundledPolicy | None = None
    consistency: tuple[bytes, ...] = ()
    continuity: tuple[str, ...] = ()
    cosignatures: tuple[Cosigned, ...] = ()

    def encode(self) -> bytes:
        """The file's bytes, one key a line."""
        value: dict[str, Any] = {
            "rlu_bundle": VERSION,
            "attestation": {
                "evidence": [{"data": b64u(item.data), "kind": item.kind} for item in self.evidence],
                "statement": self.statement,
            },
        }
        if self.channel is not None:
            value["channel"] = {"spki_sha256": b64u(self.channel)}
        for name, data in (
            ("nonce", self.nonce),
            ("commitment_key", self.commitment_key),
            ("head", self.head),
        ):
            if data is not None:
                value[name] = b64u(data)
        for name, logged in (("session", self.session), ("close", self.close)):
            if logged is not None:
                value[name] = _logged_json(logged)
        arrays: dict[str, list[Any]] = {
            "exchanges": [_exchange_json(exchange) for exchange in self.exchanges],
            "collateral": [{"data": b64u(piece.data), "kind": piece.kind} for piece in self.collateral],
            "roots": [b64u(fingerprint) for fingerprint in self.roots],
            "consistency": [b64u(receipt) for receipt in self.consistency],
            "continuity": list(self.continuity),
            "cosignatures": [{"cosignature": one.line, "head": b64u(one.head)} for one in self.cosignatures],
        }
        value |= {name: array for name, array in arrays.items() if array}
        if self.policy is not None:
            files = [{"data": b64u(data), "name": name} for name, data in self.policy.files]
            value["policy"] = {"files": files, "toml": b64u(self.policy.toml)}
        return (json.dumps(value, indent=1) + "\n").encode("ascii")


def parse(data: bytes) -> Bundle:
    """Read a bundle.

    Raises:
        Malformed: `bundle.encoding`.
    """
    value = _load(data)
    try:
        return _read(value)
    except RluError as error:
        raise Malformed(_CODE, error.message) from error


def _read(value: object) -> Bundle:
    with Members(value, "bundle") as members:
        members.exactly("rlu_bundle", VERSION)
        with members.object("attestation") as attestation:
            statement = _string(attestation.value("statement"), "statement")
            evidence = tuple(
                _evidence(item) for item in _array(attestation.value("evidence"), MAX_EVIDENCE, "evidence")
            )
        channel = None
        if "channel" in members:
            with members.object("channel") as inner:
                channel = inner.binary("spki_sha256", 32)
        bundle = Bundle(
            statement=statement,
            evidence=evidence,
            channel=channel,
            nonce=members.optional(members.binary, "nonce", *NONCE_SIZES),
            session=members.optional(lambda name: _logged(members.value(name)), "session"),
            commitment_key=members.optional(members.binary, "commitment_key", KEY_SIZE),
            exchanges=_each(members, "exchanges", MAX_EXCHANGES, _exchange),
            close=members.optional(lambda name: _logged(members.value(name)), "close"),
            head=members.optional(members.binary, "head"),
            collateral=_each(members, "collateral", MAX_COLLATERAL, _collateral),
            roots=_each(members, "roots", MAX_COLLATERAL, _fingerprint),
            policy=members.optional(lambda name: _policy(members.value(name)), "policy"),
            consistency=_each(members, "consistency", MAX_EXCHANGES, _binary),
            continuity=_each(members, "continuity", MAX_CONTINUITY, lambda item: _string(item, "continuity")),
            cosignatures=_each(members, "cosignatures", MAX_COSIGNATURES, cosigned),
        )
    if bundle.session is None and (bundle.exchanges or bundle.close or bundle.commitment_key is not None):
        raise Malformed(
            _CODE, "exchanges, a close or a commitment key belong to a session, and there is none"
        )
    return bundle


def _load(data: bytes) -> object:
    if len(data) > MAX_BUNDLE:
        raise Malformed(_CODE, f"longer than {MAX_BUNDLE} bytes")
    if sum(map(data.count, (b",", b"[", b"{"))) > _MAX_VALUES:
        raise Malformed(_CODE, "more members and elements than a bundle can have")
    try:
        return json.loads(
            data.decode("utf-8"),
            object_pairs_hook=unique,
            parse_int=no_number,
            parse_float=no_number,
            parse_constant=no_number,
        )
    except (ValueError, RecursionError) as error:
        raise Malformed(_CODE, "not JSON in UTF-8, or with a duplicate key or a number") from error


def _string(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise Malformed(_CODE, f"{what} must be a string")
    return value


def _array(value: object, most: int, what: str) -> list[object]:
    if not isinstance(value, list) or len(value) > most:
        raise Malformed(_CODE, f"{what} must be an array of at most {most}")
    return value


def _each(members: Members, name: str, most: int, read: Callable[[object], T]) -> tuple[T, ...]:
    """The elements of an array that may be absent."""
    return tuple(map(read, _array(members.value(name), most, name))) if name in members else ()


def _collateral(value: object) -> Collateral:
    with Members(value, "collateral") as members:
        return Collateral(members.choice("kind", COLLATERAL), members.binary("data"))


def _binary(value: object) -> bytes:
    with Members({"data": value}, "consistency") as members:
        return members.binary("data")


def cosigned(value: object) -> Cosigned:
    """One member of `cosignatures`, here and in a server's answer. Raises Malformed."""
    with Members(value, "cosignature") as members:
        return Cosigned(members.binary("head"), members.text("cosignature"))


def _fingerprint(value: object) -> bytes:
    with Members({"root": value}, "roots") as members:
        return members.binary("root", 32)


def _policy(value: object) -> BundledPolicy:
    with Members(value, "policy") as members:
        files = _each(members, "files", MAX_POLICY_FILES, _file)
        if len({name for name, _ in files}) != len(files):
            raise Malformed(_CODE, "two files of the policy have one name")
        return BundledPolicy(members.binary("toml"), files)


def _file(value: object) -> tuple[str, bytes]:
    with Members(value, "file of the policy") as members:
        return members.text("name"), members.binary("data")


def _evidence(value: object) -> EvidenceItem:
    with Members(value, "evidence item") as members:
        return EvidenceItem(members.text("kind"), members.binary("data"))


def _logged(value: object) -> Logged:
    with Members(value, "logged statement") as members:
        return Logged(members.binary("statement"), members.binary("receipt"))


def _exchange(value: object) -> Exchange:
    with Members(value, "exchange") as members:
        logged = Logged(members.binary("statement"), members.binary("receipt"))
        request = members.optional(members.binary, "request")
        return Exchange(logged, request, members.optional(members.binary, "response"))


def _logged_json(logged: Logged) -> dict[str, Any]:
    return {"receipt": b64u(logged.receipt), "statement": b64u(logged.statement)}


def _exchange_json(exchange: Exchange) -> dict[str, Any]:
    value = _logged_json(exchange.logged)
    if exchange.request is not None:
        value["request"] = b64u(exchange.request)
    if exchange.response is not None:
        value["response"] = b64u(exchange.response)
    return value
