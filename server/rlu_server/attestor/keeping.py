"""Where the settings have the instance key: which TPM, and which file or handle."""

from __future__ import annotations

from pathlib import Path

from rlu_server.attestor.enrolment import StateFiles
from rlu_server.attestor.errors import NotReady
from rlu_server.attestor.handles import HandleSlots
from rlu_server.attestor.slots import FileSlots, KeySlots
from rlu_server.attestor.tpm import ima
from rlu_server.attestor.tpm.platform import TpmConfiguration
from rlu_server.settings import Settings

EVENT_LOG = Path("/sys/kernel/security/tpm0/binary_bios_measurements")
TPM_HOLDERS = frozenset({"tpm2", "gcp-vtpm", "azure-vtpm"})
"""Kinds of evidence whose key is in a TPM, and so outlives the attestor."""


def key_slots(settings: Settings) -> KeySlots:
    """Where the instance keys are.

    Raises:
        NotReady: the key path is neither a path nor a handle.
    """
    directory, place = StateFiles(settings.state_dir).key_age.parent, settings.key_path
    if settings.attestation.holder not in TPM_HOLDERS or not place.startswith(("0x", "0X")):
        return FileSlots(directory, Path(place))
    try:
        return HandleSlots(directory, int(place, 16))
    except ValueError as error:
        raise NotReady("key.handle", "a persistent handle looks like 0x81000010") from error


def tpm_configuration(settings: Settings) -> TpmConfiguration:
    """Where the TPM and the key in use are.

    Raises:
        NotReady: as `key_slots`; or the key in use is not known (`key.handles`).
    """
    device = settings.attestation.tcti.startswith("device:")
    pcrs = tuple(sorted(set(settings.attestation.pcrs)))
    return TpmConfiguration(
        tcti=settings.attestation.tcti,
        key=key_slots(settings).current,
        pcrs=pcrs,
        event_log=EVENT_LOG if device else None,
        ima_log=ima.present() if device and ima.PCR in pcrs else None,
    )
