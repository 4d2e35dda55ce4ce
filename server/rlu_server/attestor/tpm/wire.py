"""The commands of the signing path as bytes (TPM 2.0 Library, part 3), without I/O.

A signature takes TPM2_PolicyPCR, TPM2_PolicyAuthValue and TPM2_Sign in a policy session. The session is authorised by an HMAC, so that the
key's secret never crosses the bus. The TSS library would do the same, but its HMAC sets up a whole OpenSSL library context each time (8 ms
a signature instead of 1, all of it CPU); hence these few structures by hand. Everything rarer goes through the library.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass

from rlu_server.attestor.errors import HardwareUnavailable

ST_NO_SESSIONS, ST_SESSIONS, ST_HASHCHECK = 0x8001, 0x8002, 0x8024
CC_SIGN, CC_FLUSH_CONTEXT, CC_START_AUTH_SESSION = 0x15D, 0x165, 0x176
CC_POLICY_AUTH_VALUE, CC_POLICY_PCR = 0x16B, 0x17F
RH_NULL = 0x40000007
SE_POLICY = 0x01
ALG_SHA256, ALG_NULL, ALG_ECDSA = 0x000B, 0x0010, 0x0018
CONTINUE_SESSION = 0x01
NONCE_SIZE = 32
COORDINATE_SIZE = 32


def sized(data: bytes) -> bytes:
    """A TPM2B: two bytes of length, then the data."""
    return struct.pack(">H", len(data)) + data


def pcr_selection(pcrs: tuple[int, ...]) -> bytes:
    """TPML_PCR_SELECTION of one SHA-256 bank, three bytes of bitmap."""
    bitmap = sum(1 << pcr for pcr in set(pcrs))
    return struct.pack(">IHB", 1, ALG_SHA256, 3) + bitmap.to_bytes(3, "little")


def policy_digest(pcrs: tuple[int, ...], pcr_digest: bytes) -> bytes:
    """authPolicy of the instance key (FORMATS section 4): PolicyPCR, then PolicyAuthValue."""
    after_pcr = hashlib.sha256(
        bytes(32) + struct.pack(">I", CC_POLICY_PCR) + pcr_selection(pcrs) + pcr_digest
    ).digest()
    return hashlib.sha256(after_pcr + struct.pack(">I", CC_POLICY_AUTH_VALUE)).digest()


@dataclass(slots=True)
class PolicySession:
    """A policy session: its handle and the TPM's latest nonce, which rolls with every use."""

    handle: int
    nonce_tpm: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """A response's code and what follows its header."""

    tag: int
    code: int
    body: bytes


def start_policy_session(nonce_caller: bytes) -> bytes:
    """TPM2_StartAuthSession: unbound, unsalted, policy, SHA-256."""
    body = struct.pack(">II", RH_NULL, RH_NULL) + sized(nonce_caller) + sized(b"")
    return command(
        ST_NO_SESSIONS, CC_START_AUTH_SESSION, body + struct.pack(">BHH", SE_POLICY, ALG_NULL, ALG_SHA256)
    )


def policy_pcr(session: int, selection: bytes) -> bytes:
    """TPM2_PolicyPCR with the PCRs as they are now."""
    return command(ST_NO_SESSIONS, CC_POLICY_PCR, struct.pack(">I", session) + sized(b"") + selection)


def policy_auth_value(session: int) -> bytes:
    """TPM2_PolicyAuthValue."""
    return command(ST_NO_SESSIONS, CC_POLICY_AUTH_VALUE, struct.pack(">I", session))


def flush_context(handle: int) -> bytes:
    """TPM2_FlushContext."""
    return command(ST_NO_SESSIONS, CC_FLUSH_CONTEXT, struct.pack(">I", handle))


def sign(
    key: int, key_name: bytes, auth: bytes, digest: bytes, session: PolicySession, nonce_caller: bytes
) -> bytes:
    """TPM2_Sign of a digest with the key's own scheme, authorised by the policy session's HMAC (part 1, section 19.6)."""
    parameters = sized(digest) + struct.pack(">HHI", ALG_NULL, ST_HASHCHECK, RH_NULL) + sized(b"")
    cp_hash = hashlib.sha256(struct.pack(">I", CC_SIGN) + key_name + parameters).digest()
    attributes = bytes((CONTINUE_SESSION,))
    proof = hmac.digest(auth, cp_hash + nonce_caller + session.nonce_tpm + attributes, "sha256")
    area = struct.pack(">I", session.handle) + sized(nonce_caller) + attributes + sized(proof)
    body = struct.pack(">II", key, len(area)) + area + parameters
    return command(ST_SESSIONS, CC_SIGN, body)


def parse_answer(data: bytes) -> Answer:
    """Raises HardwareUnavailable for anything that is not one whole response."""
    if len(data) < 10:
        raise _broken()
    tag, size, code = struct.unpack_from(">HII", data)
    if size != len(data) or tag not in (ST_NO_SESSIONS, ST_SESSIONS):
        raise _broken()
    return Answer(tag, code, data[10:])


def parse_session(answer: Answer) -> PolicySession:
    """The answer to `start_policy_session`."""
    reader = _Reader(answer.body)
    session = PolicySession(reader.number(4), reader.sized(64))
    reader.end()
    return session


def parse_signature(answer: Answer, session: PolicySession, auth: bytes, nonce_caller: bytes) -> bytes:
    """Raw signature (r ‖ s) of the answer to `sign`; checks the TPM's HMAC and rolls the session's nonce."""
    reader = _Reader(answer.body)
    parameters = reader.take(reader.number(4))
    nonce_tpm, attributes, proof = reader.sized(64), reader.take(1), reader.sized(64)
    reader.end()
    rp_hash = hashlib.sha256(struct.pack(">II", answer.code, CC_SIGN) + parameters).digest()
    expected = hmac.digest(auth, rp_hash + nonce_tpm + nonce_caller + attributes, "sha256")
    if answer.tag != ST_SESSIONS or not hmac.compare_digest(proof, expected):
        raise _broken()
    session.nonce_tpm = nonce_tpm
    inner = _Reader(parameters)
    if inner.number(2) != ALG_ECDSA or inner.number(2) != ALG_SHA256:
        raise _broken()
    r, s = inner.sized(COORDINATE_SIZE), inner.sized(COORDINATE_SIZE)
    inner.end()
    return r.rjust(COORDINATE_SIZE, b"\0") + s.rjust(COORDINATE_SIZE, b"\0")


class _Reader:
    """Bounded cursor; short input and leftovers refuse."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, size: int) -> bytes:
        piece = self._data[self._at : self._at + size]
        if len(piece) != size:
            raise _broken()
        self._at += size
        return piece

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def sized(self, maximum: int) -> bytes:
        size = self.number(2)
        if size > maximum:
            raise _broken()
        return self.take(size)

    def end(self) -> None:
        if self._at != len(self._data):
            raise _broken()


def command(tag: int, code: int, body: bytes) -> bytes:
    """A command: header and body."""
    return struct.pack(">HII", tag, 10 + len(body), code) + body


def _broken() -> HardwareUnavailable:
    return HardwareUnavailable("tpm.response", "the TPM's response was cut short or altered on the way")
