"""The bodies of our own routes. What comes in is closed (unknown fields refuse) and bounded; what goes out is documented for OpenAPI."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

B64u = Annotated[str, Field(description="base64url without padding", pattern=r"^[A-Za-z0-9_-]*$")]
MAX_TTL_S = 7 * 86400


class Incoming(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class OpenSession(Incoming):
    """Opens a session whose statement carries the caller's nonce."""

    # Sizes are checked by hand: the refusal names the limits.
    nonce: Annotated[str, Field(description="8 to 64 random bytes, base64url without padding")]
    cnf_jkt: Annotated[
        str | None, Field(description="RFC 7638 SHA-256 thumbprint of a key the caller holds")
    ] = None
    ttl_s: Annotated[
        int | None, Field(ge=1, le=MAX_TTL_S, description="seconds; at most the server's own limit")
    ] = None


class SignedStatement(BaseModel):
    """A statement and its COSE Receipt: `{"receipt", "statement"}` (FORMATS section 5)."""

    statement: B64u
    receipt: B64u


class OpenedSession(SignedStatement):
    session: str
    commitment_key: B64u
    expires: Annotated[int, Field(description="seconds since the epoch")]


class SessionSummary(BaseModel):
    session: str
    created: int
    expires: int
    state: Literal["open", "expired", "closed"]
    explicit: bool
    last_seq: int


class SessionDetail(SessionSummary, SignedStatement):
    pass


class SessionList(BaseModel):
    sessions: list[SessionSummary]


class CommitmentKey(BaseModel):
    commitment_key: B64u


class EvidenceItem(BaseModel):
    kind: str
    data: B64u


class AttestationPart(BaseModel):
    statement: Annotated[str, Field(description="the instance statement, a JWS (FORMATS section 3)")]
    evidence: list[EvidenceItem]


class AttestationBundle(BaseModel):
    """A bundle (FORMATS section 10) of the instance statement, its evidence and the caller's nonce."""

    rlu_bundle: Literal["1"] = "1"
    attestation: AttestationPart
    nonce: B64u | None = None


class LogHead(BaseModel):
    head: B64u
    tree_size: int


class LogProof(BaseModel):
    receipt: B64u


class LogPath(BaseModel):
    path: Annotated[list[B64u], Field(description="RFC 9162 section 2.1.4.1")]


class LogLeaves(BaseModel):
    start: int
    leaves: Annotated[B64u, Field(description="leaf hashes, 32 bytes each")]


class LogInstance(BaseModel):
    """An earlier instance and its final signed head."""

    issuer: str
    jwk: dict[str, str]
    head: B64u
    tree_size: int


class LogHistory(BaseModel):
    instances: list[LogInstance]


class LogEntry(BaseModel):
    """One entry as it is exported (FORMATS section 11.4)."""

    leaf: B64u
    kind: Literal["session", "receipt", "close", "gap", "tally"]
    iat: int
    status: str | None = None
    usage: list[int] | None = None
    first: int | None = None


class LogEntries(BaseModel):
    start: int
    tree_size: int
    entries: list[LogEntry]


class ExportState(Incoming):
    size: Annotated[int, Field(ge=0, lt=2**53, description="entries exported")]


class Cosignature(Incoming):
    head: Annotated[str, Field(description="the signed head, base64url without padding")]
    cosignature: Annotated[str, Field(max_length=512, description="signature line of a C2SP signed note")]


class CosignedHead(BaseModel):
    head: B64u
    cosignature: str


class Cosignatures(BaseModel):
    cosignatures: list[CosignedHead]


class Tls(BaseModel):
    origin: Literal["gateway-memory", "provisioned", "plaintext"]
    spki_sha256: B64u | None = None


class NonceLimits(BaseModel):
    min_bytes: int
    max_bytes: int


class Configuration(BaseModel):
    """What a client needs to know before its first request. Nothing here is proof: `rlu verify` checks the attestation."""

    rlu_configuration: Literal["1"] = "1"
    issuer: str
    jwk: dict[str, str]
    instance_profile: B64u
    tls: Tls
    version: str
    models: list[str]
    nonce: NonceLimits
    attestation_endpoint: str
    sessions_endpoint: str
    receipts_endpoint: str
    log_endpoint: str
    openapi: str


class Health(BaseModel):
    status: Literal["ok"] = "ok"


class Reason(BaseModel):
    code: str
    detail: str


class Readiness(BaseModel):
    ready: bool
    reasons: list[Reason]


class Problem(BaseModel):
    """RFC 9457 problem details with our stable code."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    param: str | None = None
    request_id: str


class ResolvedPseudonym(BaseModel):
    pseudonym: str
    principal: str


class KeySummary(BaseModel):
    """An API key, without anything it could be used with. Times are seconds since the epoch."""

    id: str
    principal: str
    created: int
    expires: int | None
    revoked: int | None
    last_used: Annotated[int | None, Field(description="to the minute; null: not since this gateway started")]


class KeyList(BaseModel):
    keys: list[KeySummary]
