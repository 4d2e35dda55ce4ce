"""An instance key at its place: in a file, or at a persistent handle of the TPM, where the TPM keeps it without one."""

from __future__ import annotations

from tpm2_pytss import ESYS_TR

from rlu_server.attestor.errors import HardwareRefused, NotReady
from rlu_server.attestor.places import FreeHandle, KeyAt
from rlu_server.attestor.tpm import keys
from rlu_server.attestor.tpm.connection import Tpm, guard

FIRST_PERSISTENT, LAST_PERSISTENT = keys.FIRST_PERSISTENT, 0x817FFFFF
"""Those of the owner."""


def load_or_create(
    tpm: Tpm, place: int | KeyAt | FreeHandle, attributes: int, policy: bytes, auth: bytes
) -> keys.LoadedKey:
    """The key at a persistent handle; made there when absent, unless a certain one is meant."""
    if isinstance(place, KeyAt):
        return load_persistent(tpm, place, auth)
    if isinstance(place, FreeHandle):
        return create_persistent(tpm, place, attributes, policy, auth)
    return load_or_create_persistent(tpm, place, attributes, policy, auth)


def load_or_create_persistent(
    tpm: Tpm, handle: int, attributes: int, policy: bytes, auth: bytes
) -> keys.LoadedKey:
    """The key at a persistent handle; made and moved there when the handle is free."""
    if not FIRST_PERSISTENT <= handle <= LAST_PERSISTENT:
        raise NotReady("key.handle", "a persistent handle of the owner is between 0x81000000 and 0x817fffff")
    found = _at(tpm, handle, auth)
    if found is not None:
        return found
    return persist(tpm, keys.load(tpm, keys.create(tpm, attributes, policy, auth), auth), handle)


def load_persistent(tpm: Tpm, place: KeyAt, auth: bytes) -> keys.LoadedKey:
    """The very key that was put at a persistent handle.

    Raises:
        HardwareRefused: `key.absent`.
    """
    found = _at(tpm, place.handle, auth)
    if found is None or keys.ueid_of(found.public) != place.ueid:
        raise HardwareRefused(
            "key.absent",
            f"the key {place.ueid} is not at handle 0x{place.handle:08x}, where handles.json has it: the TPM was cleared, is another, or "
            "somebody removed the key; to begin with a new one, move handles.json away or set attestation.key_path to another handle",
        )
    return found


def create_persistent(
    tpm: Tpm, place: FreeHandle, attributes: int, policy: bytes, auth: bytes
) -> keys.LoadedKey:
    """A new key at a handle that is free.

    Raises:
        NotReady: `rotation.handle`.
    """
    last = min(place.first + place.count - 1, LAST_PERSISTENT)
    with guard("persistent"):
        taken = set(tpm.handles(place.first))
    free = next((handle for handle in range(place.first, last + 1) if handle not in taken), None)
    if free is None:
        raise NotReady(
            "rotation.handle",
            f"no handle from 0x{place.first:08x} to 0x{last:08x} is free for the next key: remove what is not used there",
        )
    transient = keys.load(tpm, keys.create(tpm, attributes, policy, auth), auth)
    try:
        place.note(place_of(transient, free))
    except BaseException:
        tpm.flush(transient.reference)
        raise
    return persist(tpm, transient, free)


def place_of(key: keys.LoadedKey, handle: int) -> KeyAt:
    """How an instance key at a handle is known from now on."""
    name = keys.ueid_of(key.public)
    assert name is not None
    return KeyAt(handle, name)


def evict(tpm: Tpm, place: KeyAt) -> None:
    """Remove a key from its handle, if it is this key that is there."""
    found = _at(tpm, place.handle, b"")
    if found is not None and keys.ueid_of(found.public) == place.ueid:
        with guard("evict_control"):
            tpm.esapi.evict_control(ESYS_TR.RH_OWNER, found.reference, place.handle)


def ueid_at(tpm: Tpm, handle: int) -> str | None:
    """Name of the key at a handle; None if there is none of our kind."""
    found = _at(tpm, handle, b"")
    return None if found is None else keys.ueid_of(found.public)


def _at(tpm: Tpm, handle: int, auth: bytes) -> keys.LoadedKey | None:
    """Whatever is at a persistent handle."""
    with guard("persistent"):
        if handle not in tpm.handles(handle):
            return None
        return keys.loaded(tpm, tpm.esapi.tr_from_tpmpublic(handle), auth)


def persist(tpm: Tpm, transient: keys.LoadedKey, handle: int) -> keys.LoadedKey:
    """Put a loaded key at a handle, and take it from its place among the loaded ones."""
    try:
        with guard("evict_control"):
            reference = tpm.esapi.evict_control(ESYS_TR.RH_OWNER, transient.reference, handle)
    finally:
        tpm.flush(transient.reference)
    return keys.loaded(tpm, reference, transient.auth)
