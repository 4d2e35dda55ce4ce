"""Messages between gateway and attestor: typed, bounded, and free of content.

Framing and flow are in server/DESIGN.md. Every struct refuses unknown fields; every string, byte string and list has a maximum,
so that a decoded message is at most a few kilobytes. There is no "sign this" message: the attestor composes every statement itself
from nonces, pseudonyms, commitments, status and usage (design P2).
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

MAX_FRAME = 256 * 1024
"""Largest frame of a request in bytes, length prefix excluded."""
MAX_ANSWER = 16 * 1024 * 1024
"""The same of an answer: evidence of eight GPUs with their reference values takes megabytes."""

SIGNING_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Upper bounds in seconds of the time that a head's signature and write take."""

MAX_LEAVES = 4096
MAX_ENTRIES = 1024
MAX_INSTANCES = 256

Id = Annotated[int, Meta(ge=0, lt=2**32)]
Size = Annotated[int, Meta(ge=0, lt=2**53)]
Digest = Annotated[bytes, Meta(min_length=32, max_length=32)]
Signature = Annotated[bytes, Meta(min_length=64, max_length=64)]
KeyId = Annotated[bytes, Meta(min_length=4, max_length=4)]
"""Of a witness's verifier key (FORMATS section 11.2)."""
Nonce = Annotated[bytes, Meta(min_length=8, max_length=64)]
SessionId = Annotated[str, Meta(min_length=22, max_length=22, pattern="^[A-Za-z0-9_-]{22}$")]
Pseudonym = Annotated[str, Meta(min_length=1, max_length=64, pattern="^[A-Za-z0-9_-]+$")]
Code = Annotated[str, Meta(min_length=1, max_length=64, pattern="^[a-z0-9_.-]+$")]
Name = Annotated[str, Meta(min_length=1, max_length=256)]
PostureKey = Annotated[str, Meta(max_length=64, pattern="^[a-z0-9_]+$")]
PostureValue = bool | int | Annotated[str, Meta(max_length=128, pattern="^[A-Za-z0-9 ._:,/+-]*$")]
Posture = Annotated[dict[PostureKey, PostureValue], Meta(max_length=64)]
TlsOrigin = Literal["gateway-memory", "provisioned", "plaintext"]
Issuer = Annotated[str, Meta(min_length=61, max_length=61, pattern="^urn:rlu:instance:[A-Za-z0-9_-]{44}$")]
Kind = Literal["session", "receipt", "close", "gap", "tally"]
Status = Literal["complete", "partial", "aborted", "failed"]


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", kw_only=True):
    """Base of all messages; `id` pairs an answer with its request."""

    id: Id


class Commitment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Length in bytes and keyed commitment of some content (FORMATS section 7)."""

    bytes: Size
    commitment: Digest


class Usage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Token counts as found in the relayed bytes."""

    input_tokens: Size
    output_tokens: Size
    cached_input_tokens: Size = 0


# --- from the gateway ---------------------------------------------------------------------------------------------


class Hello(Message, frozen=True, tag="hello"):
    gateway_version: Annotated[str, Meta(max_length=64)]
    tls_origin: TlsOrigin
    tls_spki_sha256: Digest | None
    posture: Posture


class Attest(Message, frozen=True, tag="attest"):
    """Fresh instance statement and evidence for a client's nonce; `None` for the one renewed on schedule."""

    nonce: Nonce | None


class OpenSession(Message, frozen=True, tag="open_session"):
    tenant: Pseudonym
    principal: Pseudonym
    nonce: Nonce | None
    cnf_jkt: Digest | None
    commitment_key_digest: Digest
    opening: Commitment | None
    ttl_s: Annotated[int, Meta(ge=1, le=7 * 86400)]
    policies: Annotated[list[Name], Meta(max_length=16)] = []


class BeginExchange(Message, frozen=True, tag="begin_exchange"):
    session: SessionId


class RecordReceipt(Message, frozen=True, tag="record_receipt"):
    session: SessionId
    seq: Size
    route: Annotated[str, Meta(max_length=64, pattern="^(/[a-z0-9_/-]*|unknown)$")]
    model: Name
    status: Status
    http_status: Annotated[int, Meta(ge=0, le=999)]
    request: Commitment | None
    forwarded: Commitment | None
    rewritten: Annotated[list[Code], Meta(max_length=16)]
    response: Commitment | None
    usage: Usage | None
    reason: Code | None


class CloseSession(Message, frozen=True, tag="close_session"):
    session: SessionId
    reason: Code
    scratch: Literal["wiped", "unknown"]


class Prove(Message, frozen=True, tag="prove"):
    """COSE Receipt of inclusion for a leaf, under the latest signed head of this instance's log or of an earlier one's."""

    leaf_index: Size
    issuer: Issuer | None = None


class ProveConsistency(Message, frozen=True, tag="prove_consistency"):
    """COSE Receipt of consistency between an earlier size and the latest signed head, or the final one of an earlier instance."""

    old_size: Size
    issuer: Issuer | None = None


class ProvePath(Message, frozen=True, tag="prove_path"):
    """The hashes that prove that the tree of one size extends that of another, of this instance or an earlier one; nothing signed."""

    old_size: Size
    new_size: Size
    issuer: Issuer | None = None


class LatestHead(Message, frozen=True, tag="latest_head"):
    """The latest signed head of this instance's log, or of an earlier one's: the final one, unless it still has sessions."""

    issuer: Issuer | None = None


class Cosign(Message, frozen=True, tag="cosign"):
    """A witness's cosignature on a head of this instance or an earlier one, both taken apart; answered with all that are kept of that
    instance."""

    issuer: Issuer
    signed_at: Size
    """`iat` of the head."""
    tree_size: Size
    root: Digest
    signature: Signature
    """The head's."""
    witness: KeyId
    time: Size
    """By the witness's clock."""
    cosignature: Signature


class ReadCosignatures(Message, frozen=True, tag="read_cosignatures"):
    """The witnesses' latest cosignatures on heads of this instance or an earlier one."""

    issuer: Issuer | None = None


class ReadLeaves(Message, frozen=True, tag="read_leaves"):
    """Leaf hashes from an index on, as many as are under the latest signed head and fit."""

    start: Size
    count: Annotated[int, Meta(ge=1, le=MAX_LEAVES)]


class ReadEntries(Message, frozen=True, tag="read_entries"):
    """Leaf hashes with what is kept beside them, of this instance or an earlier one; those that were given up are passed over."""

    start: Size
    count: Annotated[int, Meta(ge=1, le=MAX_ENTRIES)]
    issuer: Issuer | None = None


class AckExport(Message, frozen=True, tag="ack_export"):
    """Everything before `size` has been exported."""

    size: Size


class History(Message, frozen=True, tag="history"):
    """The instances before this one."""


class ReadCondition(Message, frozen=True, tag="read_condition"):
    """How the attestor is doing, for the operator's metrics."""


Request = (
    Hello
    | Attest
    | OpenSession
    | BeginExchange
    | RecordReceipt
    | CloseSession
    | Prove
    | ProveConsistency
    | ProvePath
    | LatestHead
    | Cosign
    | ReadCosignatures
    | ReadLeaves
    | ReadEntries
    | AckExport
    | History
    | ReadCondition
)

# --- from the attestor --------------------------------------------------------------------------------------------


class Welcome(Message, frozen=True, tag="welcome"):
    """Answers `Hello`. With `id` 0 nobody asked: the key was rotated, and sessions opened from now on are of the new instance. Those that
    are open stay what they are, on this very connection."""

    statement: str
    """The current instance statement (JWS) for this gateway's TLS key."""
    jwk: dict[str, str]
    issuer: str
    profile_digest: Digest
    """Instance profile digest that this connection's session statements will carry."""


class EvidenceItem(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    kind: str
    data: bytes


class Attestation(Message, frozen=True, tag="attestation"):
    statement: str
    evidence: list[EvidenceItem]


class Logged(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A statement that is in the log under a signed head."""

    statement: bytes
    leaf_index: Size


class SessionOpened(Message, frozen=True, tag="session_opened"):
    session: SessionId
    logged: Logged
    receipt: bytes
    """COSE Receipt of inclusion; the gateway verifies it before the first response byte."""


class ExchangeBegun(Message, frozen=True, tag="exchange_begun"):
    seq: Size


class ReceiptRecorded(Message, frozen=True, tag="receipt_recorded"):
    logged: Logged


class SessionClosed(Message, frozen=True, tag="session_closed"):
    logged: Logged


class Proof(Message, frozen=True, tag="proof"):
    receipt: bytes


class Head(Message, frozen=True, tag="head"):
    head: bytes
    tree_size: Size


class Path(Message, frozen=True, tag="path"):
    path: list[Digest]


class CosignedHead(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A head, and one witness's signature line on it."""

    head: bytes
    line: str


class Cosignatures(Message, frozen=True, tag="cosignatures"):
    cosignatures: list[CosignedHead]


class Leaves(Message, frozen=True, tag="leaves"):
    start: Size
    leaves: bytes
    """32 bytes each."""


class LogEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One leaf as it is exported (FORMATS section 11.4)."""

    leaf: Digest
    kind: Kind
    iat: Size
    status: str
    usage: tuple[int, int, int]
    first: Size


class Entries(Message, frozen=True, tag="entries"):
    """Entries from `start` on, which is more than was asked for when some were given up."""

    start: Size
    tree_size: Size
    entries: list[LogEntry]


class Exported(Message, frozen=True, tag="exported"):
    exported: Size
    tree_size: Size


class Instance(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An earlier instance and its final head."""

    issuer: str
    jwk: dict[str, str]
    head: bytes
    tree_size: Size


class Instances(Message, frozen=True, tag="instances"):
    instances: list[Instance]


class LicenceCondition(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the licence stands, by the latest time known; both None while there is none that verifies."""

    ends_in_s: int | None
    refuses_in_s: int | None
    refusing: bool


class Condition(Message, frozen=True, tag="condition"):
    """Numbers and codes. Counters are since the attestor's start; times are seconds since the epoch."""

    signatures: list[Size]
    """Heads that were signed and written, by how long that took: one count for each bound of `SIGNING_BUCKETS`, and one beyond them."""
    signing_s: float
    """The sum of these times."""
    waiting: Size
    """Leaves that wait for a signature."""
    failing: bool
    """The latest signature of a head failed."""
    entries: Size
    """Leaves under the latest signed head."""
    exported: Size
    head_at: Size
    """When the latest head was signed."""
    stated_at: Size
    """When the standing instance statement for this gateway was made."""
    drift: Code | None
    """What the operator's policy finds wrong."""
    canary_at: Size | None
    """When the last canary test was reported that statements name."""
    leaving: bool
    """A former key still has sessions."""
    licence: LicenceCondition | None = None
    """`None`: none is needed."""


class Failure(Message, frozen=True, tag="failure"):
    """`code` is stable: `signer_unavailable`, `unknown_session`, `session_expired`, `unknown_exchange`, `not_in_log`,
    `cosignature_refused`, `export_behind`, `drift`, `licence_expired`, `licence_not_yet`, `licence_invalid`, `malformed`,
    `hello_required`, `overloaded`, `hello.tls`, `log.damaged`, and `facts.missing`, `facts.unreadable`, `facts.malformed` while the
    launcher has not yet written what is to be stated. A garbled frame is answered with `malformed` and `id` 0, and ends the connection."""

    code: Code
    message: Annotated[str, Meta(max_length=256)]


Answer = (
    Welcome
    | Attestation
    | SessionOpened
    | ExchangeBegun
    | ReceiptRecorded
    | SessionClosed
    | Proof
    | Head
    | Path
    | Cosignatures
    | Leaves
    | Entries
    | Exported
    | Instances
    | Condition
    | Failure
)
