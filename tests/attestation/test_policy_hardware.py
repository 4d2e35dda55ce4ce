"""The policy's rules on hardware: files of reference values, profiles of the operator's, limits."""

from __future__ import annotations

import pytest

from rlu_attestation import policy_file
from rlu_attestation.policy import Policy, PolicyError

A, B = "aa" * 48, "bb" * 48
PCR = "cc" * 32


def parse(text: str, **files: str) -> Policy:
    def read(name: str) -> bytes:
        found = files.get(name.removesuffix(".toml"))
        if found is None:
            raise FileNotFoundError(2, "No such file or directory")
        return found.encode()

    return policy_file.parse(f"version = 1\n{text}".encode(), read)


def refused(text: str, **files: str) -> str:
    with pytest.raises(PolicyError) as error:
        parse(text, **files)
    return f"{error.value.code}: {error.value.message}"


def test_what_several_files_list_is_accepted_alike() -> None:
    policy = parse(
        f'references = ["one.toml", "two.toml"]\n[measurements.sev-snp]\nmeasurement = ["{A}"]\n',
        one=f'version = 1\n[measurements.sev-snp]\nmeasurement = ["{B}"]\n[pcrs.sha256]\n0 = ["{PCR}"]\n',
        two=f'version = 1\n[measurements.tdx]\nmr_td = ["{B}"]\n',
    )
    named = policy.measurements["sev-snp"]
    assert named is not None
    assert named["measurement"] == {bytes.fromhex(A), bytes.fromhex(B)}
    assert policy.measurements["tdx"] == {"mr_td": {bytes.fromhex(B)}}
    assert policy.pcrs == {"sha256": {0: {bytes.fromhex(PCR)}}}


@pytest.mark.parametrize(
    ("file", "told"),
    [
        ("version = 2\n", "policy.value: one.toml.version must be 1"),
        ("", "policy.value: one.toml.version must be 1"),
        ("version = 1\nversion = 1\n", "policy.references: references: one.toml"),
        ("\x00", "policy.references: references: one.toml"),
        ('version = 1\n[accept]\nregions = "any"\n', "policy.unknown_key: unknown keys: one.toml.accept"),
        ('version = 1\npcrs = "any"\n', 'policy.value: one.toml names reference values; "any"'),
        (
            'version = 1\n[measurements]\ntdx = "any"\n',
            'policy.value: one.toml names reference values; "any"',
        ),
    ],
)
def test_a_file_that_holds_anything_else(file: str, told: str) -> None:
    assert refused('references = ["one.toml"]\n', one=file).startswith(told)


def test_a_file_that_is_not_there() -> None:
    assert refused('references = ["none.toml"]\n') == (
        "policy.references: references: none.toml: No such file or directory"
    )


def test_files_are_part_of_what_a_digest_pins() -> None:
    text, file = 'references = ["one.toml"]\n', f'version = 1\n[measurements.tdx]\nmr_td = ["{A}"]\n'
    pinned = parse(text, one=file).digest
    assert parse(text, one=file).digest == pinned
    assert parse(text, one=file.replace(A, B)).digest != pinned
    assert parse(text, one=file + "\n").digest != pinned


def test_an_operators_profile_cannot_take_the_name_of_a_built_in_one() -> None:
    text = refused('[profiles.h200x8]\nkeys = ["tpm2"]\n')
    assert text.startswith("policy.value: profiles.h200x8 is built in")


@pytest.mark.parametrize(
    ("level", "fits"), [(0, True), (255, True), (256, False), (-1, False), ("true", False)]
)
def test_the_least_version_of_a_component(level: object, fits: bool) -> None:
    text = f"[tcb.sev-snp.milan]\nmicrocode = {level}\n"
    if fits:
        assert parse(text).tcb["sev-snp"].minimum == {"milan": {"microcode": level}}
    else:
        assert "tcb.sev-snp.milan.microcode must be a whole number" in refused(text)


def test_a_process_whose_lock_is_left_empty() -> None:
    assert refused("[lock.engine]\n").startswith("policy.value: lock.engine must name what")


def test_limits_that_accept_one_value_and_none() -> None:
    one = parse("[lock.engine]\nlandlock_abi = { at_least = 4, at_most = 4 }\n").lock["engine"]
    assert one is not None
    assert one["landlock_abi"].accepts(4)
    assert "accepts nothing" in refused("[lock.engine]\nlandlock_abi = { at_least = 5, at_most = 4 }\n")


@pytest.mark.parametrize("size", [32, 34])
def test_a_revoked_key_is_named_by_a_ueid(size: int) -> None:
    from rlu_attestation.encoding import b64u

    good = b64u(b"\x01" + bytes(32))
    assert parse(f'[trust]\nrevoked_keys = ["{good}"]\n').revoked_keys == {good}
    bad = b64u(b"\x01" + bytes(size - 1))
    assert "no ueid of an instance" in refused(f'[trust]\nrevoked_keys = ["{bad}"]\n')


@pytest.mark.parametrize("value", ["true", '"60"', "-1", "0.5", "316224001"])
def test_times_are_seconds(value: str) -> None:
    assert "max_session_age_s must be a number of seconds" in refused(
        f"[time]\nmax_session_age_s = {value}\n"
    )
