"""What the instance keys of one TPM share: the connection, the AK, and the policy session.

There are two keys while one steps down for another (`rotation.py`). An emulator has three places for objects, and loading a key takes one
for the storage key; so the AK leaves its place while keys are loaded, and comes back from a saved context. One thread uses all of this.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tpm2_pytss import TPM2_ALG, TPMT_SIG_SCHEME
from tpm2_pytss.tsskey import TSSPrivKey

from rlu_server.attestor.errors import AttestorError, NotReady
from rlu_server.attestor.places import FreeHandle, Place
from rlu_server.attestor.tpm import keys, placed, wire
from rlu_server.attestor.tpm.attestation_key import AttestationKey
from rlu_server.attestor.tpm.connection import Tpm, guard


@dataclass(slots=True, eq=False)
class Slot:
    """Where an instance key is kept, and its TPMT_PUBLIC once it is known.

    Attributes:
        wrapped: a key of a file, as it was read there: in a rotation another key gets that file.
    """

    place: Place
    public: bytes | None = None
    wrapped: TSSPrivKey | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """An instance key in the TPM, and what the AK says of it."""

    key: keys.LoadedKey
    certify: tuple[bytes, bytes]


@dataclass(slots=True)
class Loaded:
    """A live connection."""

    tpm: Tpm
    ak: keys.LoadedKey
    held: dict[Slot, Held] = field(default_factory=dict)
    session: wire.PolicySession | None = None

    def end_session(self) -> None:
        if self.session is not None:
            handle, self.session = self.session.handle, None
            with suppress(AttestorError):  # gone with the connection, then
                self.tpm.transact(wire.flush_context(handle))


class SharedTpm:
    """The connection, made again when the TPM was away.

    Args:
        pcrs: those that the keys are bound to.
        auth: authorisation value of the keys.
    """

    def __init__(self, tcti: str, pcrs: tuple[int, ...], auth: bytes, ak: AttestationKey) -> None:
        self._tcti = tcti
        self._pcrs = pcrs
        self._auth = auth
        self._ak = ak
        self._slots: list[Slot] = []
        self._loaded: Loaded | None = None

    def ready(self) -> Loaded:
        """The connection, with every key loaded."""
        if self._loaded is None:
            tpm = Tpm(self._tcti)
            try:
                loaded = Loaded(tpm, self._ak.load(tpm))
                self._load(loaded, self._slots)
            except BaseException:
                tpm.close()
                raise
            self._loaded = loaded
        return self._loaded

    def join(self, slot: Slot) -> None:
        """Load one more key; it is made if the slot is empty."""
        if self._loaded is not None:
            try:
                self._load(self._loaded, [slot])
            except BaseException:
                self.abandon()
                raise
        self._slots.append(slot)
        try:
            self.ready()
        except BaseException:
            self._slots.remove(slot)
            raise

    def leave(self, slot: Slot) -> None:
        """Unload a key; the last one closes the connection."""
        self._slots.remove(slot)
        if self._loaded is None:
            return
        held = self._loaded.held.pop(slot, None)
        if held is not None:
            _flush(self._loaded.tpm, held.key)
        if not self._slots:
            loaded, self._loaded = self._loaded, None
            _flush(loaded.tpm, loaded.ak)
            loaded.end_session()
            loaded.tpm.close()

    def abandon(self) -> None:
        """The connection is broken: make it again when it is next needed."""
        if self._loaded is not None:
            self._loaded.tpm.close()
            self._loaded = None

    def _load(self, loaded: Loaded, slots: list[Slot]) -> None:
        tpm = loaded.tpm
        policy = keys.current_policy(tpm, self._pcrs)
        with keys.put_aside(tpm, loaded.ak) as ak:
            found = {slot: self._load_key(tpm, slot, policy) for slot in slots}
        loaded.ak = ak[0]
        for slot, key in found.items():
            loaded.held[slot] = Held(key, certify(tpm, key, loaded.ak))
            slot.public = key.public

    def _load_key(self, tpm: Tpm, slot: Slot, policy: bytes) -> keys.LoadedKey:
        form = (keys.INSTANCE_ATTRIBUTES, policy, self._auth)
        if isinstance(slot.place, Path):
            slot.wrapped = slot.wrapped or keys.wrapped_in_file(tpm, slot.place, *form)
            key = keys.load(tpm, slot.wrapped, self._auth)
        else:
            key = placed.load_or_create(tpm, slot.place, *form)
        if isinstance(slot.place, FreeHandle):
            slot.place = placed.place_of(key, key.handle)
        keys.check_public(key, keys.INSTANCE_ATTRIBUTES, policy)
        if slot.public is not None and key.public != slot.public:
            raise NotReady(
                "key.changed", "the key at the handle was replaced while the attestor ran: restart it"
            )
        return key


def certify(tpm: Tpm, key: keys.LoadedKey, ak: keys.LoadedKey) -> tuple[bytes, bytes]:
    """TPM2_Certify of the key by the AK: TPMS_ATTEST and TPMT_SIGNATURE."""
    scheme = TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL)
    with tpm.hmac_session() as first, tpm.hmac_session() as second, guard("certify"):
        attest, signature = tpm.esapi.certify(key.reference, ak.reference, b"", scheme, first, second)
    return bytes(attest), bytes(signature.marshal())


def _flush(tpm: Tpm, key: keys.LoadedKey) -> None:
    if not key.stays:
        tpm.flush(key.reference)
