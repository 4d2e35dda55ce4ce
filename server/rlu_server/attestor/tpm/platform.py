"""`Platform` on a TPM 2.0: keys loaded once, a policy session that is used again and again, reconnection when the TPM was away."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric import ec

from rlu_attestation.evidence.binding import SINGLE
from rlu_server.attestor.errors import HardwareUnavailable
from rlu_server.attestor.places import KeyAt, Place
from rlu_server.attestor.platform import Evidence, evidence_of
from rlu_server.attestor.secret import authorisation
from rlu_server.attestor.tpm import counter, ima, keys, placed, wire
from rlu_server.attestor.tpm.attestation_key import AttestationKey, TpmParts
from rlu_server.attestor.tpm.connection import ATTEMPTS, guard
from rlu_server.attestor.tpm.shared import Loaded, SharedTpm, Slot

T = TypeVar("T")
MAX_EVENT_LOG = 128 * 1024
SECURE_BOOT = Path("/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c")


@dataclass(frozen=True, slots=True)
class TpmConfiguration:
    """Where the TPM and its keys are.

    Attributes:
        key: a file or a persistent handle.
        pcrs: those that are quoted.
        event_log: the firmware's log, which goes beside a quote where it can be read.
        ima_log: the kernel's list of measurements, which must go beside it; with PCR 10 among `pcrs` only.
    """

    tcti: str
    key: Place
    pcrs: tuple[int, ...]
    event_log: Path | None = None
    ima_log: Path | None = None

    @property
    def bound(self) -> tuple[int, ...]:
        """PCRs that the keys are bound to: no key survives that the list's PCR grows (FORMATS section 4)."""
        return self.pcrs if self.ima_log is None else tuple(pcr for pcr in self.pcrs if pcr != ima.PCR)


class TpmPlatform:
    """The instance key in a TPM 2.0.

    Args:
        secret: the attestor's.
        ak: which key attests, and whose word it has.
        beside: another key of the same TPM, whose connection is shared.

    Raises at construction:
        HardwareUnavailable: no TPM there.
        HardwareRefused: the key is of another form, another secret or another platform state.
        NotReady: key file or endorsement do not fit.
    """

    collects_beside = False

    def __init__(
        self,
        configuration: TpmConfiguration,
        secret: bytes,
        ak: AttestationKey,
        beside: TpmPlatform | None = None,
    ) -> None:
        self._configuration = configuration
        self._secret = secret
        self._key_auth = authorisation(secret, "instance-key")
        self._ak = ak
        self._selection = wire.pcr_selection(configuration.bound)
        self._shared: SharedTpm = (
            SharedTpm(configuration.tcti, configuration.bound, self._key_auth, ak)
            if beside is None
            else beside._shared
        )
        self.slot = Slot(configuration.key)
        self._shared.join(self.slot)

    @property
    def kind(self) -> str:
        return self._ak.kind

    @property
    def public_key(self) -> ec.EllipticCurvePublicKey:
        assert self.slot.public is not None
        return keys.public_key_of(self.slot.public)

    @property
    def ak_name(self) -> bytes:
        """TPM name of the AK."""
        return self._shared.ready().ak.name

    @property
    def verified_boot(self) -> bool:
        try:
            return SECURE_BOOT.read_bytes()[4:5] == b"\x01"
        except OSError:
            return False

    def sign(self, digest: bytes) -> bytes:
        return self._twice(lambda loaded: self._sign(loaded, digest))

    def collect(self, root: bytes) -> Evidence:
        return self._twice(lambda loaded: self._collect(loaded, root))

    def raise_start_counter(self) -> int:
        return self._twice(lambda loaded: counter.increment(loaded.tpm))

    def close(self) -> None:
        self._shared.leave(self.slot)

    def beside(self, key: Place) -> TpmPlatform:
        """One more key of the same TPM, certified by the same AK; it is made if there is none yet.

        Raises:
            AttestorError: as at construction; this key goes on.
        """
        return TpmPlatform(replace(self._configuration, key=key), self._secret, self._ak, self)

    def evict(self, key: KeyAt) -> None:
        self._twice(lambda loaded: placed.evict(loaded.tpm, key))

    def _twice(self, operation: Callable[[Loaded], T]) -> T:
        """Once more on a new connection: a TPM that was reset, or a resource manager that restarted, lost what we had loaded."""
        try:
            return operation(self._shared.ready())
        except HardwareUnavailable:
            self._shared.abandon()
        try:
            return operation(self._shared.ready())
        except HardwareUnavailable:
            self._shared.abandon()
            raise

    def _sign(self, loaded: Loaded, digest: bytes) -> bytes:
        for attempt in range(ATTEMPTS):
            try:
                return self._sign_once(loaded, digest)
            except HardwareUnavailable as error:
                # Any PCR, even one outside the selection, may be extended between PolicyPCR and Sign.
                if error.code != "tpm.pcr_changed" or attempt == ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    def _sign_once(self, loaded: Loaded, digest: bytes) -> bytes:
        tpm = loaded.tpm
        if loaded.session is None:
            nonce = secrets.token_bytes(wire.NONCE_SIZE)
            loaded.session = wire.parse_session(tpm.transact(wire.start_policy_session(nonce)))
        key = loaded.held[self.slot].key
        session, nonce = loaded.session, secrets.token_bytes(wire.NONCE_SIZE)
        try:
            tpm.transact(wire.policy_pcr(session.handle, self._selection))
            tpm.transact(wire.policy_auth_value(session.handle))
            command = wire.sign(key.handle, key.name, self._key_auth, digest, session, nonce)
            return wire.parse_signature(tpm.transact(command), session, self._key_auth, nonce)
        except Exception:
            loaded.end_session()  # its digest is half made, or its nonce unknown
            raise

    def _collect(self, loaded: Loaded, root: bytes) -> Evidence:
        bound = self._configuration.bound
        for _ in range(ATTEMPTS):
            pcrs = keys.read_pcrs(loaded.tpm, bound)
            quote = _quote(loaded, self._configuration.pcrs, root)
            if keys.read_pcrs(loaded.tpm, bound) == pcrs:
                return self._evidence(loaded, pcrs, quote)
        raise HardwareUnavailable("tpm.pcr_changed", "PCRs were extended during every attempt to quote them")

    def _evidence(self, loaded: Loaded, pcrs: dict[int, bytes], quote: tuple[bytes, bytes]) -> Evidence:
        measured = None
        if self._configuration.ima_log is not None:
            measured, pcrs = ima.covered(ima.read(self._configuration.ima_log), quote, pcrs)
        parts = TpmParts(
            ak_public=loaded.ak.public,
            key_public=loaded.held[self.slot].key.public,
            certify=loaded.held[self.slot].certify,
            quote=quote,
            pcrs={"sha256": pcrs},
            event_log=self._event_log(),
            ima_log=measured,
        )
        return evidence_of(self._ak.item(parts, SINGLE))

    def _event_log(self) -> bytes | None:
        path = self._configuration.event_log
        if path is None:
            return None
        try:
            with path.open("rb") as file:
                data = file.read(MAX_EVENT_LOG + 1)
        except OSError:
            return None  # optional: an emulator has none, and a container may not see it
        return data if 0 < len(data) <= MAX_EVENT_LOG else None


def _quote(loaded: Loaded, pcrs: tuple[int, ...], root: bytes) -> tuple[bytes, bytes]:
    selection = "sha256:" + ",".join(map(str, sorted(set(pcrs))))
    with loaded.tpm.hmac_session() as session, guard("quote"):
        attest, signature = loaded.tpm.esapi.quote(loaded.ak.reference, selection, root, session1=session)
    return bytes(attest), bytes(signature.marshal())
