"""Policies from TOML: every key, and the refusal of every typo."""

from __future__ import annotations

import base64
import hashlib
import re
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.machine import registrar, vendor_root
from rlu_attestation import policy_file
from rlu_attestation.catalogue import CLAIMS, STEPS, WAIVABLE
from rlu_attestation.channel import TLS_ORIGINS
from rlu_attestation.encoding import b64u
from rlu_attestation.instance import DEBUG_STATES
from rlu_attestation.policy import ACCEPT, Bound, Policy, PolicyError
from rlu_attestation.verdict import Source

EXAMPLE = Path(__file__).resolve().parents[2] / "attestation" / "policy.example.toml"
DIGEST = b64u(hashlib.sha256(b"x").digest())


def pem(der: bytes) -> str:
    body = base64.encodebytes(der).decode()
    return f"-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n"


def files(name: str) -> bytes:
    if name == "vendors.pem":
        return (pem(vendor_root().der) + pem(registrar().der)).encode()
    if name == "registrar.der":
        return registrar().der
    if name == "garbage.pem":
        return b"garbage"
    raise FileNotFoundError(2, "No such file or directory")


def parse(text: str) -> Policy:
    return policy_file.parse(text.encode(), files)


def refusal(text: str) -> PolicyError:
    with pytest.raises(PolicyError) as caught:
        parse(text)
    assert caught.value.exit_code == 2
    return caught.value


def test_the_least_policy_is_the_empty_one() -> None:
    policy = parse("version = 1\n")
    assert policy.digest == hashlib.sha256(b"version = 1\n").digest()
    empty = Policy()
    for name in Policy.__dataclass_fields__:
        if name not in ("digest", "accept"):
            assert getattr(policy, name) == getattr(empty, name), name
    assert all(policy.accept[rule] == frozenset() for rule in ACCEPT)


def test_every_key() -> None:
    policy = parse(
        f"""
        version = 1
        require = ["session", "close"]
        [trust]
        ek_roots = ["vendors.pem"]
        registrars = ["registrar.der", '''{pem(vendor_root().der)}''']
        unsafe_accept_emulated_tpm = true
        unsafe_accept_unverified_boot = true
        [time]
        max_statement_age_s = 7
        clock_skew_s = 0
        [accept]
        hardware_profiles = ["h200x8", "h100x8"]
        regions = ["eu"]
        boundaries = "any"
        sites = []
        models = ["{DIGEST}"]
        engines = ["vllm/0.32.0"]
        engine_arguments = ["{DIGEST}"]
        gateways = ["rlu/0.1.0"]
        gateway_images = ["{DIGEST}"]
        debug_states = ["enabled", "disabled"]
        [pcrs.sha256]
        0 = ["{"00" * 32}", "{"Ff" * 32}"]
        23 = ["{"11" * 32}"]
        [pcrs.sha384]
        7 = ["{"22" * 48}"]
        [channel]
        origins = ["gateway-memory", "provisioned"]
        terminator_spki_sha256 = ["{DIGEST}"]
        [lock]
        attestor = "any"
        [lock.engine]
        abi = {{ at_least = 4, at_most = 9 }}
        least = {{ at_most = -1 }}
        exact = 4
        flag = false
        swap = ["off", "none"]
        [lock.gateway]
        wiped = true
        [minimum_source]
        default = "asserted"
        key = "hardware"
        region = "endorsed"
        model = "measured"
        [[waive]]
        step = "channel"
        reason = "  because  "
        [[waive]]
        step = "close.running"
        reason = "a sample"
        """
    )
    assert policy.require == {"instance", "session", "close"}
    assert [c.raw for c in policy.ek_roots] == [vendor_root().der, registrar().der]
    assert [c.raw for c in policy.registrars] == [registrar().der, vendor_root().der]
    assert policy.unsafe_accept_emulated_tpm is policy.unsafe_accept_unverified_boot is True
    assert (policy.max_statement_age_s, policy.clock_skew_s) == (7, 0)
    assert policy.accept["hardware_profiles"] == {"h200x8", "h100x8"}
    assert policy.accept["boundaries"] is None
    assert policy.accept["sites"] == frozenset()
    assert policy.pcrs == {
        "sha256": {0: {bytes(32), b"\xff" * 32}, 23: {b"\x11" * 32}},
        "sha384": {7: {b"\x22" * 48}},
    }
    assert policy.channel_origins == {"gateway-memory", "provisioned"}
    assert policy.terminators == {hashlib.sha256(b"x").digest()}
    assert policy.lock == {
        "attestor": None,
        "engine": {
            "abi": Bound(at_least=4, at_most=9),
            "least": Bound(at_most=-1),
            "exact": Bound(values=(4,)),
            "flag": Bound(values=(False,)),
            "swap": Bound(values=("off", "none")),
        },
        "gateway": {"wiped": Bound(values=(True,))},
    }
    assert policy.default_source is Source.ASSERTED
    assert policy.minimum_source == {
        "key": Source.HARDWARE,
        "region": Source.ENDORSED,
        "model": Source.MEASURED,
    }
    assert policy.waivers == {"channel": "because", "close.running": "a sample"}


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("verson = 1", "verson"),
        ("requires = []", "requires"),
        ("[trust]\nek_root = []", "trust.ek_root"),
        ("[trust]\nunsafe_accept_emulated_tpms = true", "trust.unsafe_accept_emulated_tpms"),
        ("[time]\nmax_age = 1", "time.max_age"),
        ("[accept]\nregion = []", "accept.region"),
        ("[channel]\norigin = []", "channel.origin"),
        ("[lock]\nengin = 'any'", "lock.engin"),
        ("[lock.engine]\nabi = { at_least = 1, at_lest = 2 }", "lock.engine.abi.at_lest"),
        ("[minimum_source]\nregions = 'asserted'", "minimum_source.regions"),
        ("[pcrs.sha265]\n0 = []", "pcrs.sha265"),
        (f"[pcrs.sha256]\n24 = ['{'00' * 32}']", "pcrs.sha256.24"),
        ("[[waive]]\nstep = 'channel'\nreason = 'x'\nwhy = 'y'", "waive.why"),
        ("[unknown]\nx = 1", "unknown"),
    ],
)
def test_an_unknown_key_refuses_and_is_named(text: str, key: str) -> None:
    prefix = "" if text.startswith("verson") else "version = 1\n"
    if not prefix:
        assert refusal(text).code == "policy.value"
        prefix = "version = 1\n"
    error = refusal(prefix + text)
    assert error.code == "policy.unknown_key"
    assert re.search(rf"{re.escape(key)}\b", error.message)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("", "version"),
        ("version = 2", "version"),
        ("version = '1'", "version"),
        ("version = 1\nrequire = 'session'", "require"),
        ("version = 1\nrequire = ['sessions']", "require"),
        ("version = 1\ntrust = 1", "trust"),
        ("version = 1\n[trust]\nek_roots = 'any'", "trust.ek_roots"),
        ("version = 1\n[trust]\nek_roots = [1]", "trust.ek_roots"),
        ("version = 1\n[trust]\nunsafe_accept_emulated_tpm = 1", "trust.unsafe_accept_emulated_tpm"),
        ("version = 1\n[trust]\nunsafe_accept_emulated_tpm = 'true'", "trust.unsafe_accept_emulated_tpm"),
        ("version = 1\n[time]\nclock_skew_s = -1", "time.clock_skew_s"),
        ("version = 1\n[time]\nclock_skew_s = true", "time.clock_skew_s"),
        ("version = 1\n[time]\nclock_skew_s = 3601", "time.clock_skew_s"),
        ("version = 1\n[time]\nclock_skew_s = 1.5", "time.clock_skew_s"),
        ("version = 1\n[time]\nmax_statement_age_s = 999999999999", "time.max_statement_age_s"),
        ("version = 1\n[accept]\nregions = 'eu'", "accept.regions"),
        ("version = 1\n[accept]\nregions = ['']", "accept.regions"),
        ("version = 1\n[accept]\nmodels = ['abc']", "accept.models"),
        ("version = 1\n[accept]\nengine_arguments = ['abc']", "accept.engine_arguments"),
        ("version = 1\n[accept]\ngateway_images = ['abc']", "accept.gateway_images"),
        ("version = 1\n[accept]\ndebug_states = ['off']", "accept.debug_states"),
        ("version = 1\n[channel]\norigins = 'any'", "channel.origins"),
        ("version = 1\n[channel]\norigins = ['memory']", "channel.origins"),
        ("version = 1\n[channel]\nterminator_spki_sha256 = ['AAAA']", "channel.terminator_spki_sha256"),
        ("version = 1\npcrs = 'all'", "pcrs"),
        ("version = 1\n[pcrs.sha256]\n0 = []", "pcrs.sha256.0"),
        ("version = 1\n[pcrs.sha256]\n0 = ['00']", "pcrs.sha256.0"),
        ("version = 1\n[pcrs.sha256]\n0 = ['zz']", "pcrs.sha256.0"),
        ("version = 1\nlock = 'all'", "lock"),
        ("version = 1\n[lock]\nengine = 'all'", "lock.engine"),
        ("version = 1\n[lock.engine]\nabi = {}", "lock.engine.abi"),
        ("version = 1\n[lock.engine]\nabi = []", "lock.engine.abi"),
        ("version = 1\n[lock.engine]\nabi = 1.5", "lock.engine.abi"),
        ("version = 1\n[lock.engine]\nabi = { at_least = true }", "lock.engine.abi.at_least"),
        ("version = 1\n[lock.engine]\nabi = { at_least = '4' }", "lock.engine.abi.at_least"),
        ("version = 1\n[minimum_source]\nregion = 'certain'", "minimum_source.region"),
        ("version = 1\n[minimum_source]\ndefault = 1", "minimum_source.default"),
        ("version = 1\nwaive = 'channel'", "waive"),
        ("version = 1\nwaive = [1]", "waive"),
        ("version = 1\nwaive = {}", "waive"),
        ("version = 1\n[[waive]]\nstep = 'statement.signature'\nreason = 'x'", "waive.step"),
        ("version = 1\n[[waive]]\nstep = 'chanel'\nreason = 'x'", "waive.step"),
        ("version = 1\n[[waive]]\nreason = 'x'", "waive.step"),
        ("version = 1\n[[waive]]\nstep = 'channel'", "waive.reason"),
        ("version = 1\n[[waive]]\nstep = 'channel'\nreason = ' '", "waive.reason"),
        ("version = 1\n[[waive]]\nstep = 'channel'\nreason = 1", "waive.reason"),
        (
            "version = 1\n[[waive]]\nstep = 'channel'\nreason = 'x'\n[[waive]]\nstep = 'channel'\nreason = 'y'",
            "waive.step",
        ),
    ],
)
def test_a_wrong_value_refuses_and_is_named(text: str, key: str) -> None:
    error = refusal(text)
    assert error.code == "policy.value"
    assert error.message.startswith(key)


@pytest.mark.parametrize(
    ("text", "key", "allowed"),
    [
        ("[accept]\nhardware_profiles = ['h200x9']", "accept.hardware_profiles", "h200x8"),
        ("[accept]\nengines = ['vllm']", "accept.engines", "name/version"),
        ("[accept]\ngateways = ['/0.1']", "accept.gateways", "name/version"),
        ("[accept]\ngateways = ['rlu/']", "accept.gateways", "name/version"),
        ("[accept]\ndebug_states = ['off']", "accept.debug_states", "disabled-since-boot"),
        ("[trust]\nrevoked_keys = ['abc']", "trust.revoked_keys", "ueid"),
        (f"[trust]\nrevoked_keys = ['{DIGEST}']", "trust.revoked_keys", "ueid"),
        (f"[trust]\nrevoked_keys = ['{b64u(bytes(33))}']", "trust.revoked_keys", "ueid"),
        ("[lock.engine]\nabi = { at_least = 5, at_most = 4 }", "lock.engine.abi", "at_most 4"),
        ("[gpu]\ncount = 0", "gpu.count", "from 1 up"),
        ("[gpu]\ncount = -1", "gpu.count", "from 1 up"),
        ("[gpu]\ncount = '8'", "gpu.count", "whole number"),
        ("[gpu]\nmemory_mib = -1", "gpu.memory_mib", "from 0 up"),
        ("[profiles.x]\nunattested = []", "profiles.x.keys", "sev-snp"),
        ("[profiles.x]\nkeys = ['amd']", "profiles.x.keys", "sev-snp"),
        ("[profiles.x]\nkeys = ['tdx']\ngpus = { names = ['x'] }", "profiles.x.gpus.count", "from 1 up"),
        ("[profiles.x]\nkeys = ['tdx']\ngpus = { count = 1 }", "profiles.x.gpus.names", "NVIDIA H100"),
        ("[tcb.sev-snp.milan]\nmicrocode = 256", "tcb.sev-snp.milan.microcode", "from 0 to 255"),
        ("[tcb.sev-snp.milan]", "tcb.sev-snp.milan", "microcode"),
        ("[tcb.tdx]\nstatuses = ['Good']", "tcb.tdx.statuses", "UpToDate"),
        ("[measurements.sev-snp]\nmeasurement = ['00']", "measurements.sev-snp.measurement", "48 bytes"),
        ("[measurements.sev-snp]\nhost_data = ['zz']", "measurements.sev-snp.host_data", "32 bytes"),
        ("[measurements.tdx]\nmr_td = 'any'", "measurements.tdx.mr_td", "array of strings"),
        ("[measurements.nitro]\npcr0 = []", "measurements.nitro.pcr0", "48 bytes"),
        ("[measurements]\nnitro = {}", "measurements.nitro", "any"),
        ("[minimum_source]\nmodel = 'hardware'", "minimum_source.model", "measured"),
        ("[minimum_source]\nregion = 'hardware'", "minimum_source.region", "measured"),
        ("[tee]\naccept = ['debug']", "tee.accept", "migration"),
    ],
)
def test_what_can_never_be_refuses_with_what_is_allowed(text: str, key: str, allowed: str) -> None:
    error = refusal(f"version = 1\n{text}")
    assert error.code == "policy.value"
    assert error.message.startswith(f"{key} ")
    assert allowed in error.message


@pytest.mark.parametrize(
    ("text", "near", "allowed"),
    [
        ("[trust]\nek_root = []", "ek_roots", "registrars"),
        ("[accept]\nregion = []", "regions", "boundaries"),
        ("[time]\nmax_statment_age_s = 1", "max_statement_age_s", "clock_skew_s"),
        ("[measurements.sev-snp]\nmesurement = []", "measurement", "host_data"),
        ("[measurements.sev_snp]\nmeasurement = []", "sev-snp", "nitrotpm"),
        ("[tcb.sev-snp.milan]\nmicrocod = 1\nsnp = 1", "microcode", "boot_loader"),
        ("[tcb.sev-snp.genoa]\nfmc = 1\nsnp = 1", "", "boot_loader"),
        ("[gpu]\ndriver = []", "drivers", "vbios"),
        ("acept = 1", "accept", "measurements"),
    ],
)
def test_a_typing_error_is_told_with_what_was_meant(text: str, near: str, allowed: str) -> None:
    error = refusal(f"version = 1\n{text}")
    assert error.code == "policy.unknown_key"
    assert not near or f"(is it {near}?)" in error.message
    assert allowed in error.message.partition("; allowed here: ")[2].split(", ")


def test_milan_has_no_fmc_and_turin_has() -> None:
    policy = parse("version = 1\n[tcb.sev-snp.turin]\nfmc = 1")
    assert policy.tcb["sev-snp"].minimum == {"turin": {"fmc": 1}}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("version = 1\n[time]\nclock_skew_s = 1\nclock_skew_s = 2\n[tee]\n", "clock_skew_s = 2"),
        ("version = 1\n[time]\nclock_skew_s = 1\nclock_skew_s = 2", "clock_skew_s = 2"),
        ("version = 1\n[time]\n[trust]\n[time]\n[tee]\n", "[time]"),
        ("version = 1\n[accept]\nregions = ['eu'\nsites = []\n", "sites = []"),
        ("version = 1\n[accept]\nregions = eu\n", "regions = eu"),
    ],
)
def test_a_duplicate_key_and_a_broken_line_are_named(text: str, named: str) -> None:
    error = refusal(text)
    assert error.code == "policy.encoding"
    assert error.message.endswith(named)


def test_certificates_that_cannot_be_had() -> None:
    for name, reason in (("absent.pem", "No such file"), ("garbage.pem", "PEM")):
        error = refusal(f"version = 1\n[trust]\nregistrars = ['{name}']")
        assert error.code == "policy.certificate"
        assert "trust.registrars" in error.message
        assert reason in error.message
    inline = "-----BEGIN CERTIFICATE-----\\nAAAA\\n-----END CERTIFICATE-----"
    assert refusal(f'version = 1\n[trust]\nek_roots = ["{inline}"]').code == "policy.certificate"


@pytest.mark.parametrize(
    "data", [b"version = ", b"\xff", b"version = 1\nversion = 1", b"#" * (1024 * 1024 + 1)]
)
def test_what_is_not_toml(data: bytes) -> None:
    with pytest.raises(PolicyError) as caught:
        policy_file.parse(data, files)
    assert caught.value.code == "policy.encoding"


def test_limits_are_met_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_file, "MAX_POLICY", len("version = 1\n"))
    assert parse("version = 1\n")
    assert refusal("version = 1\n ").code == "policy.encoding"
    for seconds in (0, 10 * 366 * 86400):
        monkeypatch.undo()
        assert parse(f"version = 1\n[time]\nmax_key_age_s = {seconds}").max_key_age_s == seconds
    assert refusal(f"version = 1\n[time]\nmax_key_age_s = {10 * 366 * 86400 + 1}").code == "policy.value"
    assert parse("version = 1\n[time]\nclock_skew_s = 3600").clock_skew_s == 3600


def test_all_choices_at_once() -> None:
    states = ", ".join(f"'{state}'" for state in DEBUG_STATES)
    assert parse(f"version = 1\n[accept]\ndebug_states = [{states}]").accept["debug_states"] == set(
        DEBUG_STATES
    )
    origins = ", ".join(f"'{origin}'" for origin in TLS_ORIGINS)
    assert parse(f"version = 1\n[channel]\norigins = [{origins}]").channel_origins == set(TLS_ORIGINS)


def test_the_example_is_a_policy_and_names_every_rule() -> None:
    text = EXAMPLE.read_text("utf-8")
    policy = policy_file.parse(text.encode(), lambda name: files("registrar.der"))
    assert policy.accept["regions"] == {"eu-central-1"}
    assert policy.lock["engine"]["landlock_abi"] == Bound(at_least=4)  # type: ignore[index]
    for name in (
        *ACCEPT,
        *CLAIMS,
        *WAIVABLE,
        "terminator_spki_sha256",
        "max_statement_age_s",
        "clock_skew_s",
    ):
        assert name in text, name


def test_what_can_be_waived_are_steps() -> None:
    assert set(WAIVABLE) < set(STEPS)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_nothing_else(data: bytes) -> None:
    with suppress(PolicyError):
        policy_file.parse(data, files)


toml_values = st.sampled_from(
    ["1", "-1", "true", "'any'", "'x'", "[]", "['x']", "{}", "{ x = 1 }", "[{}]", "1.5", "1979-05-27"]
)
PATHS = (
    "require",
    "trust",
    "trust.ek_roots",
    "time.clock_skew_s",
    "accept",
    "accept.models",
    "pcrs",
    "pcrs.sha256",
    "pcrs.sha256.0",
    "channel.origins",
    "lock",
    "lock.engine",
    "lock.engine.abi",
    "minimum_source",
    "minimum_source.key",
    "waive",
)


@given(st.dictionaries(st.sampled_from(PATHS), toml_values, max_size=4))
def test_arbitrary_values_raise_nothing_else(values: dict[str, str]) -> None:
    text = "version = 1\n" + "\n".join(f"{path} = {value}" for path, value in values.items())
    with suppress(PolicyError):
        parse(text)
