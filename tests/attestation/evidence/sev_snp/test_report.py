"""Reports are read field by field, and nothing else than a report is read."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.amd import FIELDS, Chip, put
from rlu_attestation.errors import Malformed, RluError
from rlu_attestation.evidence.sev_snp import REPORT_SIZE, SigningKey, parse_report

POLICY = {
    16: "smt",
    18: "migrate_ma",
    19: "debug",
    20: "single_socket",
    21: "cxl_allow",
    22: "mem_aes_256_xts",
    23: "rapl_dis",
    24: "ciphertext_hiding_dram",
    25: "page_swap_disable",
}
BYTES = (
    "FAMILY_ID",
    "IMAGE_ID",
    "REPORT_DATA",
    "MEASUREMENT",
    "HOST_DATA",
    "ID_KEY_DIGEST",
    "AUTHOR_KEY_DIGEST",
)
BYTES += ("REPORT_ID", "REPORT_ID_MA", "CHIP_ID")
VERSIONS = {"CURRENT_MAJOR": 1, "CURRENT_MINOR": 2, "CURRENT_BUILD": 3}
VERSIONS |= {"COMMITTED_MAJOR": 4, "COMMITTED_MINOR": 5, "COMMITTED_BUILD": 6}
PLATFORM = {
    0: "smt_en",
    1: "tsme_en",
    2: "ecc_en",
    3: "rapl_dis",
    4: "ciphertext_hiding_dram_en",
    5: "alias_check_complete",
    7: "tio_en",
}


@pytest.mark.parametrize(("bit", "field"), POLICY.items())
def test_policy_bits(bit: int, field: str) -> None:
    policy = parse_report(Chip().body(POLICY=1 << 17 | 1 << bit)).policy
    assert {name for name in POLICY.values() if getattr(policy, name)} == {field}
    assert parse_report(Chip().body(POLICY=1 << 17 | 0x0137)).policy.abi_major == 1
    assert parse_report(Chip().body(POLICY=1 << 17 | 0x0137)).policy.abi_minor == 0x37


@pytest.mark.parametrize(("bit", "field"), PLATFORM.items())
def test_platform_bits(bit: int, field: str) -> None:
    info = parse_report(Chip().body(PLATFORM_INFO=1 << bit)).platform_info
    assert {name for name in PLATFORM.values() if getattr(info, name)} == {field}


def test_key_info() -> None:
    report = parse_report(Chip().body(KEY_INFO=0b00111))
    assert (report.author_key_en, report.mask_chip_key, report.signing_key) == (True, True, SigningKey.VLEK)
    assert parse_report(Chip().body(KEY_INFO=0b11100)).signing_key is SigningKey.NONE


def test_every_field_is_read_from_its_place() -> None:
    chip = Chip("Genoa", version=5)
    for name in (
        "GUEST_SVN",
        "LAUNCH_MIT_VECTOR",
        "CURRENT_MIT_VECTOR",
        "CPUID_FAM_ID",
        "CPUID_MOD_ID",
        "CPUID_STEP",
    ):
        assert getattr(parse_report(chip.body(**{name: 0x21})), name.lower()) == 0x21
    for name in BYTES:
        value = bytes(range(FIELDS[name][1]))
        body = bytearray(chip.body())
        put(body, name, value)
        assert getattr(parse_report(bytes(body)), name.lower()) == value
    for name in ("CURRENT_TCB", "REPORTED_TCB", "COMMITTED_TCB", "LAUNCH_TCB"):
        assert getattr(parse_report(chip.body(**{name: b"12345678"})), name.lower()).raw == b"12345678"
    report = parse_report(chip.body(**VERSIONS))
    assert (str(report.current_version), str(report.committed_version)) == ("1.2.3", "4.5.6")
    report = parse_report(chip.body(R=0x0102, S=1 << 383))
    assert (report.signature_r, report.signature_s) == (0x0102, 1 << 383)


def test_older_versions_have_fewer_fields() -> None:
    report = parse_report(Chip(version=2).report())
    assert report.cpuid_fam_id is report.cpuid_mod_id is report.cpuid_step is None
    assert report.launch_mit_vector is report.current_mit_vector is None
    assert parse_report(Chip(version=3).report()).launch_mit_vector is None


@given(st.binary(max_size=64) | st.binary(min_size=REPORT_SIZE, max_size=REPORT_SIZE))
def test_arbitrary_bytes_raise_only_our_error(data: bytes) -> None:
    with pytest.raises(RluError):
        parse_report(data)


@settings(deadline=None)
@given(st.data())
def test_a_damaged_report_parses_or_raises_only_our_error(data: st.DataObject) -> None:
    body = bytearray(Chip("Genoa", version=5).body())
    for _ in range(data.draw(st.integers(1, 8))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        report = parse_report(bytes(body))
    except RluError:
        return
    assert report.raw == bytes(body)


def test_another_type_is_misuse() -> None:
    with pytest.raises((TypeError, Malformed)):
        parse_report("x" * REPORT_SIZE)  # type: ignore[arg-type]
