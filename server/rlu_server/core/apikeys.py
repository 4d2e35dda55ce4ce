"""API keys: what is kept of them, how one is checked, and the tenant and principal that come out.

A key reads `rlu_<id>_<secret>`: the id finds the record, the secret is 256 random bits. Only the SHA-256 of the secret is kept, which
is enough because 256 bits cannot be guessed; a slow hash would protect weak passwords and cost every request. The file also holds the
key that pseudonyms are made with, so that statements name tenants and principals stably but not readably.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.errors import Malformed
from rlu_server.core.errors import GatewayError

PREFIX = "rlu"
ID_SIZE = 8
SECRET_SIZE = 32
PSEUDONYM_SIZE = 16
MAX_FILE = 16 * 1024 * 1024

Label = Annotated[str, Meta(min_length=1, max_length=128)]
Instant = Annotated[int, Meta(ge=0, lt=2**53)]


class KeyRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What is kept of one API key. Times are seconds since the epoch."""

    id: Annotated[str, Meta(pattern="^[0-9a-f]{16}$")]
    secret_sha256: Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{43}$")]
    tenant: Label
    principal: Label
    created: Instant
    expires: Instant | None = None
    revoked: Instant | None = None


class KeyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The file `rlu apikeys` writes and the gateway reads."""

    rlu_apikeys: Literal["1"] = "1"
    pseudonym_key: Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{43}$")]
    """`b64u` of 32 random bytes; whoever holds it can resolve pseudonyms."""
    keys: list[KeyRecord] = []

    def to_json(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking, as established by a valid key."""

    tenant: str
    name: str
    key_id: str
    tenant_pseudonym: str
    pseudonym: str


def parse_file(data: bytes) -> KeyFile:
    """Read a key file.

    Raises:
        Malformed: `apikeys.file`, when it is not JSON of this form or an id occurs twice.
    """
    try:
        if len(data) > MAX_FILE:
            raise Malformed("apikeys.file", f"the API key file is longer than {MAX_FILE} bytes")
        file = msgspec.json.decode(data, type=KeyFile)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed("apikeys.file", "not an API key file of version 1") from error
    if len({record.id for record in file.keys}) != len(file.keys):
        raise Malformed("apikeys.file", "a key id occurs twice")
    for text in (file.pseudonym_key, *(record.secret_sha256 for record in file.keys)):
        unb64u(text)
    return file


def mint(
    id_bytes: bytes, secret: bytes, tenant: str, principal: str, created: int, expires: int | None = None
) -> tuple[KeyRecord, str]:
    """Make a record and the key's text, which is shown once and not kept.

    Args:
        id_bytes: 8 random bytes.
        secret: 32 random bytes.
    """
    if len(id_bytes) != ID_SIZE or len(secret) != SECRET_SIZE:
        raise ValueError("a key takes 8 bytes of id and 32 bytes of secret")
    text = b64u(secret)
    record = KeyRecord(
        id=id_bytes.hex(),
        secret_sha256=b64u(_digest(text)),
        tenant=tenant,
        principal=principal,
        created=created,
        expires=expires,
    )
    return record, f"{PREFIX}_{record.id}_{text}"


def tenant_key(pseudonym_key: bytes, tenant: str) -> bytes:
    """The key of a tenant's own that its principals' pseudonyms are made with; may be given to its administrator."""
    return hmac.digest(pseudonym_key, b"rlu/tenant-key/v1\x00" + tenant.encode("utf-8"), "sha256")


def pseudonym_under(key: bytes, principal: str) -> str:
    """A principal's pseudonym under its tenant's key."""
    return b64u(
        hmac.digest(key, b"rlu/principal/v1\x00" + principal.encode("utf-8"), "sha256")[:PSEUDONYM_SIZE]
    )


def tenant_pseudonym(pseudonym_key: bytes, tenant: str) -> str:
    """Keyed pseudonym of a tenant: 22 characters."""
    return b64u(
        hmac.digest(pseudonym_key, b"rlu/tenant/v1\x00" + tenant.encode("utf-8"), "sha256")[:PSEUDONYM_SIZE]
    )


def principal_pseudonym(pseudonym_key: bytes, tenant: str, principal: str) -> str:
    """Keyed pseudonym of a principal.

    Made under a key of its tenant's own, which can be given to the tenant's administrator without exposing any other tenant.
    """
    return pseudonym_under(tenant_key(pseudonym_key, tenant), principal)


def looks_like_key(text: str) -> bool:
    """Is it meant to be an API key?"""
    return text.startswith(f"{PREFIX}_")


def key_fingerprint(text: str) -> bytes:
    """What `KeyRing.identify` gives for this key, were it good."""
    return _digest(text.partition("_")[2].partition("_")[2])


@dataclass(frozen=True, slots=True)
class _Entry:
    digest: bytes
    expires: int | None
    revoked: bool
    principal: Principal


class KeyRing:
    """The keys of one file, ready to authenticate; replaced as a whole when the file changes."""

    __slots__ = ("_entries", "_pseudonym_key", "records")

    def __init__(self, pseudonym_key: bytes, records: Iterable[KeyRecord]) -> None:
        self.records = tuple(records)
        self._pseudonym_key = pseudonym_key
        self._entries = {record.id: _entry(pseudonym_key, record) for record in self.records}

    @classmethod
    def of(cls, file: KeyFile) -> KeyRing:
        return cls(unb64u(file.pseudonym_key), file.keys)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key_id: str) -> bool:
        return key_id in self._entries

    def authenticate(self, text: str, now: float) -> Principal:
        """Check a key, as `identify` does."""
        return self.identify(text, now)[0]

    def pseudonym(self, record: KeyRecord) -> str:
        """The pseudonym of a key's holder."""
        return self._entries[record.id].principal.pseudonym

    def principal(self, tenant: str, name: str, source: str) -> Principal:
        """Somebody whom another credential than a key of ours names.

        Args:
            source: kind of credential, in place of a key's id.

        Raises:
            GatewayError: `not_ready`, when there is no key file: pseudonyms made without a secret would not be any.
        """
        if not any(self._pseudonym_key):
            raise GatewayError("not_ready", "The server has no key for pseudonyms; see the operator.")
        key = self._pseudonym_key
        return Principal(
            tenant, name, source, tenant_pseudonym(key, tenant), principal_pseudonym(key, tenant, name)
        )

    def identify(self, text: str, now: float) -> tuple[Principal, bytes]:
        """Check a key; gives its holder and a fingerprint of the secret. An unknown id costs the same as a wrong secret and gives
        the same answer.

        Raises:
            GatewayError: `key_invalid`; and `key_revoked` or `key_expired`, only to someone who has the secret.
        """
        prefix, _, rest = text.partition("_")
        key_id, _, secret = rest.partition("_")
        entry = self._entries.get(key_id, _NOBODY)
        genuine = hmac.compare_digest(_digest(secret), entry.digest)
        if not genuine or prefix != PREFIX or entry is _NOBODY:
            raise GatewayError("key_invalid")
        if entry.revoked:
            raise GatewayError("key_revoked")
        if entry.expires is not None and now >= entry.expires:
            raise GatewayError("key_expired")
        return entry.principal, entry.digest


def _entry(pseudonym_key: bytes, record: KeyRecord) -> _Entry:
    principal = Principal(
        record.tenant,
        record.principal,
        record.id,
        tenant_pseudonym(pseudonym_key, record.tenant),
        principal_pseudonym(pseudonym_key, record.tenant, record.principal),
    )
    return _Entry(unb64u(record.secret_sha256), record.expires, record.revoked is not None, principal)


def _digest(secret: str) -> bytes:
    # Header values reach us as Latin-1, so any of them can be encoded back.
    return hashlib.sha256(secret.encode("latin-1", "replace")).digest()


_NOBODY = _Entry(bytes(32), None, True, Principal("", "", "", "", ""))
