"""One connection to the TPM: opening, cleaning up, and errors by blame.

Without a resource manager (an emulator's socket, or /dev/tpm0) we are the TPM's only user and whatever is loaded is left over from a
process that died; it is flushed, since an emulator has three object slots and three session slots.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

# The library logs to stderr, which a container runtime writes to disk; our errors carry its codes instead. Read at its first message.
os.environ.setdefault("TSS2_LOG", "all+NONE")

from tpm2_pytss import (
    ESAPI,
    ESYS_TR,
    TPM2_ALG,
    TPM2_CAP,
    TPM2_SE,
    TPMA_SESSION,
    TPMT_SYM_DEF,
    TCTILdr,
    TSS2_Exception,
)
from tpm2_pytss.types import TPMU_SYM_KEY_BITS, TPMU_SYM_MODE

from rlu_server.attestor.errors import AttestorError, HardwareRefused, HardwareUnavailable
from rlu_server.attestor.tpm import wire

RESOURCE_MANAGERS = ("device:/dev/tpmrm", "tabrmd")
LAYER_MASK, TPM_LAYERS = 0xFFFF0000, (0x00000000, 0x000B0000, 0x000C0000)
RC_FMT1, RC_AUTH_FAIL, RC_POLICY_FAIL, RC_BAD_AUTH = 0x080, 0x08E, 0x09D, 0x0A2
RC_INTEGRITY, RC_PCR_CHANGED, RC_LOCKOUT = 0x09F, 0x128, 0x921
RC_COMMAND_CODE = 0x143
RC_AGAIN = (0x908, 0x90A, 0x922)
"""TPM_RC_YIELDED, TPM_RC_TESTING, TPM_RC_RETRY: the same command is to be sent again."""
OWNER_COMMANDS = frozenset({"create_primary", "evict_control", "nv_counter"})
ATTEMPTS = 8
FIRST_TRANSIENT, FIRST_LOADED_SESSION, FIRST_SAVED_SESSION = 0x80000000, 0x02000000, 0x03000000


class Tpm:
    """An open TPM. `esapi` is the library's context; `transact` sends bytes of our own."""

    def __init__(self, tcti: str) -> None:
        self._open = True
        with guard("open"):
            self._tcti = TCTILdr.parse(tcti)
            try:
                self.esapi = ESAPI(self._tcti)
                if not tcti.startswith(RESOURCE_MANAGERS):
                    self._flush_leftovers()
            except BaseException:
                self._tcti.close()
                raise

    def close(self) -> None:
        """Close the connection; a resource manager then frees what was loaded."""
        if self._open:
            self._open = False
            for part in (self.esapi, self._tcti):
                with suppress(TSS2_Exception):  # a connection that is broken already needs no closing
                    part.close()

    def transact(self, command: bytes) -> wire.Answer:
        """Send a command and return its successful answer.

        Raises:
            HardwareUnavailable, HardwareRefused: by the response code.
        """
        if not self._open:  # the library would go on in memory that was freed
            raise HardwareUnavailable("tpm.unreachable", "TPM transact: the connection was closed")
        with guard("transact"):
            for _ in range(ATTEMPTS):
                self._tcti.transmit(command)
                answer = wire.parse_answer(bytes(self._tcti.receive()))
                if answer.code not in RC_AGAIN:
                    break
        if answer.code != 0:
            raise blame(answer.code, "transact")
        return answer

    @contextmanager
    def hmac_session(self, salt_key: ESYS_TR = ESYS_TR.NONE, encrypt: bool = False) -> Iterator[ESYS_TR]:
        """An HMAC session, so that no authorisation value crosses the bus; salted and encrypting its first parameter if asked."""
        symmetric = TPMT_SYM_DEF(algorithm=TPM2_ALG.NULL)
        if encrypt:
            symmetric = TPMT_SYM_DEF(
                algorithm=TPM2_ALG.AES,
                keyBits=TPMU_SYM_KEY_BITS(aes=128),
                mode=TPMU_SYM_MODE(aes=TPM2_ALG.CFB),
            )
        with guard("session"):
            session = self.esapi.start_auth_session(
                salt_key, ESYS_TR.NONE, TPM2_SE.HMAC, symmetric, TPM2_ALG.SHA256
            )
        try:
            attributes = TPMA_SESSION.CONTINUESESSION | (TPMA_SESSION.DECRYPT if encrypt else 0)
            self.esapi.trsess_set_attributes(session, attributes)
            yield session
        finally:
            self.flush(session)

    def flush(self, handle: ESYS_TR) -> None:
        """Free a transient object or session; what is gone already is no error."""
        with suppress(TSS2_Exception):
            self.esapi.flush_context(handle)

    def handles(self, first: int) -> list[int]:
        """Handles the TPM has, of the type that `first` belongs to."""
        _, data = self.esapi.get_capability(TPM2_CAP.HANDLES, first, 254)
        found = data.data.handles  # a view into `data`, which must outlive it
        return [int(found[i]) for i in range(found.count)]

    def _flush_leftovers(self) -> None:
        for first in (FIRST_TRANSIENT, FIRST_LOADED_SESSION, FIRST_SAVED_SESSION):
            for handle in self.handles(first):
                self._tcti.transmit(wire.flush_context(handle))
                self._tcti.receive()


@contextmanager
def guard(what: str) -> Iterator[None]:
    """Turn the library's exceptions into ours."""
    try:
        yield
    except TSS2_Exception as error:
        raise blame(int(error.rc), what) from error
    except (RuntimeError, OSError) as error:
        raise HardwareUnavailable("tpm.unreachable", f"TPM {what}: {error}") from error


def blame(code: int, what: str) -> AttestorError:
    """Who is to blame for a response code."""
    base = 0x080 | (code & 0x3F) if code & RC_FMT1 else code & 0xFFF
    shown = f"TPM {what}: response code 0x{code:x}"
    if code & LAYER_MASK not in TPM_LAYERS:
        return HardwareUnavailable("tpm.unreachable", shown)
    if base == RC_POLICY_FAIL:
        return HardwareRefused(
            "tpm.platform_state", f"{shown}; the PCRs are not those the key was made under"
        )
    if base in (RC_AUTH_FAIL, RC_BAD_AUTH) and what in OWNER_COMMANDS:
        return HardwareRefused("tpm.owner_password", f"{shown}; the owner hierarchy's password must be empty")
    if base in (RC_AUTH_FAIL, RC_BAD_AUTH):
        return HardwareRefused(
            "tpm.secret", f"{shown}; the attestor's secret is not the one the key was made with"
        )
    if base == RC_INTEGRITY:
        return HardwareRefused(
            "tpm.cleared", f"{shown}; the key was wrapped by another TPM, or this one was cleared since"
        )
    if base == RC_COMMAND_CODE:
        return HardwareRefused(
            "tpm.unsupported",
            f"{shown}; the TPM, or the kernel's resource manager, does not know this command",
        )
    if base == RC_PCR_CHANGED:
        return HardwareUnavailable("tpm.pcr_changed", f"{shown}; a PCR was extended meanwhile")
    if base == RC_LOCKOUT:
        return HardwareRefused("tpm.lockout", f"{shown}; the TPM is in dictionary-attack lockout")
    return HardwareUnavailable("tpm.failed", shown)
