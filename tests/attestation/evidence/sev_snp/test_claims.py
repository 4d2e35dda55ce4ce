"""What a policy can ask of a verified report."""

from __future__ import annotations

from fakes import amd
from fakes.amd import Chip
from fakes.pki import AT
from fakes.sev_snp_perturbations import REPORT_DATA, genuine
from rlu_attestation import x509
from rlu_attestation.evidence import sev_snp
from rlu_attestation.evidence.sev_snp import ProductLine, Root, SevSnpClaims


def claims(chip: Chip | None = None, **fields: int | bytes) -> SevSnpClaims:
    chip = chip or Chip()
    parts = genuine(chip)
    parts.report = chip.report(REPORT_DATA, **fields)
    roots = [Root.of(x509.parse(amd.ark(line.value).der), line) for line in ProductLine]
    return sev_snp.verify(sev_snp.parse(parts.item()), AT, roots)


def test_debug_on_is_genuine_and_a_claim() -> None:
    assert not claims().debug_allowed
    assert claims(POLICY=0x3001F | 1 << 19).debug_allowed


def test_migration_agent() -> None:
    assert not claims().migration_agent_allowed
    assert claims().migration_agent is None
    agent = claims(POLICY=0x3001F | 1 << 18, REPORT_ID_MA=b"\5" * 32)
    assert agent.migration_agent_allowed
    assert agent.migration_agent == b"\5" * 32


def test_smt() -> None:
    assert claims(PLATFORM_INFO=1).smt_enabled
    assert not claims(PLATFORM_INFO=0).smt_enabled
    assert claims(POLICY=0x3001F).policy.smt
    assert not claims(POLICY=0x2001F).policy.smt
    assert claims(PLATFORM_INFO=1 << 5).platform_info.alias_check_complete


def test_tcb_parts() -> None:
    found = claims(
        CURRENT_TCB=bytes([5, 1, 0, 0, 0, 0, 25, 220]),
        COMMITTED_TCB=bytes([4, 0, 0, 0, 0, 0, 24, 219]),
        LAUNCH_TCB=bytes([3, 0, 0, 0, 0, 0, 23, 218]),
    )
    assert str(found.current_tcb) == "boot_loader=5 tee=1 snp=25 microcode=220"
    assert str(found.reported_tcb) == str(found.committed_tcb) == "boot_loader=4 tee=0 snp=24 microcode=219"
    assert str(found.launch_tcb) == "boot_loader=3 tee=0 snp=23 microcode=218"
    turin = claims(Chip("Turin", version=5))
    assert (turin.reported_tcb.fmc, turin.reported_tcb.snp) == (1, 3)


def test_provisional_firmware() -> None:
    assert not claims().provisional_firmware
    assert claims(COMMITTED_BUILD=28).provisional_firmware
    assert claims(CURRENT_TCB=bytes([5, 0, 0, 0, 0, 0, 24, 219])).provisional_firmware


def test_the_guests_own_fields() -> None:
    found = claims(VMPL=2, GUEST_SVN=9, MEASUREMENT=b"\1" * 48, HOST_DATA=b"\2" * 32)
    assert (found.vmpl, found.guest_svn, found.measurement, found.host_data) == (2, 9, b"\1" * 48, b"\2" * 32)
    assert found.report_data == REPORT_DATA
    assert [claims(VMPL=level).vmpl for level in range(4)] == [0, 1, 2, 3]
    assert str(found.firmware) == "1.55.29"
    assert found.chip_id == Chip().hwid


def test_id_keys() -> None:
    assert claims().id_key_digest is None
    assert claims().author_key_digest is None
    found = claims(ID_KEY_DIGEST=b"\3" * 48, AUTHOR_KEY_DIGEST=b"\4" * 48, KEY_INFO=1)
    assert (found.id_key_digest, found.author_key_digest) == (b"\3" * 48, b"\4" * 48)
    assert claims(AUTHOR_KEY_DIGEST=b"\4" * 48).author_key_digest is None


def test_provider() -> None:
    found = claims(Chip(csp_id="CN=csp"))
    assert (found.csp_id, found.chip_id) == ("CN=csp", None)
