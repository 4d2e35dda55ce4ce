"""`rlu policy`: drafts that are verified first, words for every rule, digests and signatures."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import tomllib

from fakes import amd
from fakes.deployment import AT, Deployment
from fakes.machine import registrar, vendor_root
from fakes.server import FakeServer
from fakes.tee import CHIP, ITEMS, ROOTS, Tee, padded
from fakes.terminal import rlu
from rlu_attestation import policy_words
from rlu_attestation.policy import Policy

EXAMPLE = Path(__file__).resolve().parents[3] / "attestation" / "policy.example.toml"
AS_OF = ("--as-of", AT)
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def deployment() -> Deployment:
    return Deployment()


@pytest.fixture
def bundle(tmp_path: Path, deployment: Deployment) -> Path:
    (tmp_path / "roots").mkdir()
    (tmp_path / "roots" / "vendor.der").write_bytes(vendor_root().der)
    (tmp_path / "roots" / "registrar.der").write_bytes(registrar().der)
    path = tmp_path / "bundle.rlu"
    path.write_bytes(Deployment(machine=deployment.machine).bundle().encode())
    return path


def init(capsys: Capture, source: object, out: Path, *more: object) -> object:
    roots = out.parent / "roots"
    anchors = ("--ek-root", roots / "vendor.der", "--registrar", roots / "registrar.der")
    return rlu(capsys, "policy", "init", "--from", source, "-o", out, *anchors, *AS_OF, *more)


# --- init ---------------------------------------------------------------------------------------------------------------


def test_a_draft_verifies_what_it_is_from(capsys: Capture, bundle: Path) -> None:
    out = bundle.parent / "policy.toml"
    ran = init(capsys, bundle, out)
    assert (ran.code, ran.err) == (0, "")
    assert "Written for your review" in ran.out
    assert "the draft accepts this evidence" in ran.out
    assert tomllib.loads(out.read_text())["trust"]["ek_roots"] == ["roots/vendor.der"]
    assert (bundle.parent / "policy.references.toml").read_text().startswith("# REVIEW")
    assert rlu(capsys, "verify", bundle, "--policy", out, *AS_OF, "-q").code == 0
    assert rlu(capsys, "policy", "check", out).code == 0


def test_a_draft_in_another_directory_names_its_files_from_there(capsys: Capture, bundle: Path) -> None:
    inner = bundle.parent / "policies"
    inner.mkdir()
    roots = bundle.parent / "roots"
    references = bundle.parent / "values.toml"
    ran = rlu(
        capsys,
        *("policy", "init", "--from", bundle, "-o", inner / "p.toml", "--references", references),
        *("--ek-root", roots / "vendor.der", "--registrar", roots / "registrar.der", *AS_OF),
    )
    assert ran.code == 0
    values = tomllib.loads((inner / "p.toml").read_text())
    assert values["references"] == ["../values.toml"]
    assert values["trust"]["registrars"] == ["../roots/registrar.der"]
    assert rlu(capsys, "verify", bundle, "--policy", inner / "p.toml", *AS_OF, "-q").code == 0


def test_a_reviewed_policy_is_never_overwritten(capsys: Capture, bundle: Path) -> None:
    out = bundle.parent / "policy.toml"
    out.write_text("# mine")
    ran = init(capsys, bundle, out)
    assert ran.code == 2
    assert "[file.exists]" in ran.err
    assert out.read_text() == "# mine"


def test_evidence_that_does_not_hold_gives_no_draft(capsys: Capture, bundle: Path) -> None:
    out = bundle.parent / "policy.toml"
    other = bundle.parent / "roots" / "vendor.der"
    other.write_bytes(registrar().der)  # not who certified this TPM
    ran = init(capsys, bundle, out)
    assert ran.code == 10
    assert "[policy.draft.false]" in ran.err
    assert "ek.chain.unknown_issuer" in ran.err
    assert not out.exists()
    forced = init(capsys, bundle, out, "--unverified", "--json")
    assert forced.code == 0
    assert "ek.chain.unknown_issuer" in forced.json["false"]
    assert not forced.json["accepts"]
    assert "# FALSE: ek.chain.unknown_issuer" in out.read_text()


def test_evidence_of_long_ago_is_read_as_of_then(capsys: Capture, bundle: Path) -> None:
    out = bundle.parent / "policy.toml"
    roots = bundle.parent / "roots"
    anchors = ("--ek-root", roots / "vendor.der", "--registrar", roots / "registrar.der")
    ran = rlu(capsys, "policy", "init", "--from", bundle, "-o", out, *anchors, "--as-of", AT + 10**6)
    assert ran.code == 10
    assert "statement.time.expired" in ran.err


@pytest.mark.parametrize("kind", sorted(ITEMS))
def test_a_tee_and_its_item_alone(capsys: Capture, tmp_path: Path, kind: str) -> None:
    root = tmp_path / "root.der"
    root.write_bytes(ROOTS[kind][0].raw)
    item, whole = tmp_path / "item.json", tmp_path / "bundle.rlu"
    data = b"\x07" * 32
    item.write_bytes(ITEMS[kind](data))
    whole.write_bytes(Tee(kind).bundle().encode())
    for number, source in enumerate((item, whole)):
        out = tmp_path / f"{number}.toml"
        ran = rlu(
            capsys,
            "policy",
            "init",
            "--from",
            source,
            "-o",
            out,
            "--root",
            f"{kind}={root}",
            *AS_OF,
            "--json",
        )
        assert ran.code == 0
        assert ran.json["false"] == []
        assert tomllib.loads(out.read_text())["references"] == [f"{number}.references.toml"]
    # Nobody said what the item or the statement should answer, so that is told, and not waived.
    assert "statement.nonce.unknown" in ran.json["unchecked"]
    assert "statement.nonce.unknown" in ran.json["refused_for"]


def test_a_bare_report_with_its_certificates(capsys: Capture, tmp_path: Path) -> None:
    parts = amd.parts(CHIP, padded(b"\x07" * 32))
    for name, data in {
        "report.bin": parts.report,
        "vek.der": parts.vek,
        "ask.der": parts.ask,
        "ark.der": parts.ark,
    }.items():
        (tmp_path / name).write_bytes(data)
    beside = [word for name in ("vek.der", "ask.der", "ark.der") for word in ("--with", tmp_path / name)]
    common = (
        "policy",
        "init",
        "--from",
        tmp_path / "report.bin",
        "--root",
        f"sev-snp={tmp_path / 'ark.der'}",
        *AS_OF,
    )
    about = ("--report-data", padded(b"\x07" * 32).hex())
    ran = rlu(capsys, *common, *beside, *about, "-o", tmp_path / "policy.toml", "--json")
    assert (ran.code, ran.json["refused_for"]) == (0, ["sev-snp.revocation.missing"])
    assert (
        tomllib.loads((tmp_path / "policy.toml").read_text())["tcb"]["sev-snp"]["milan"]["microcode"] == 219
    )
    other = rlu(capsys, *common, *beside, "--report-data", bytes(64).hex(), "-o", tmp_path / "other.toml")
    assert (other.code, "sev-snp.binding.mismatch" in other.err) == (10, True)
    assert rlu(capsys, *common, *about, "-o", tmp_path / "none.toml").code == 2  # without certificates
    assert rlu(capsys, *common, *beside, "--report-data", "xyz", "-o", tmp_path / "none.toml").code == 2


def test_a_running_server(capsys: Capture, tmp_path: Path) -> None:
    roots = tmp_path / "roots"
    roots.mkdir()
    (roots / "vendor.der").write_bytes(vendor_root().der)
    (roots / "registrar.der").write_bytes(registrar().der)
    with FakeServer(tmp_path) as server:
        ran = init(capsys, server.url, tmp_path / "policy.toml", "--json")
        assert (ran.code, ran.json["accepts"], ran.json["unchecked"]) == (0, True, [])
        verified = rlu(capsys, "verify", server.url, "--policy", tmp_path / "policy.toml", *AS_OF, "-q")
    assert verified.code == 0
    assert f"# From: {server.url}" in (tmp_path / "policy.toml").read_text()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sev-snp", "--root is KIND=FILE"),
        ("amd=x.pem", "--root is KIND=FILE"),
        ("tdx=", "--root is KIND=FILE"),
    ],
)
def test_roots_are_named_by_kind(capsys: Capture, bundle: Path, text: str, expected: str) -> None:
    ran = init(capsys, bundle, bundle.parent / "policy.toml", "--root", text)
    assert ran.code == 2
    assert expected in ran.err


def test_other_files_give_no_draft(capsys: Capture, bundle: Path) -> None:
    bundle.write_bytes(b"garbage")
    assert init(capsys, bundle, bundle.parent / "policy.toml").code == 30
    assert init(capsys, bundle.parent / "absent", bundle.parent / "policy.toml").code == 2
    bundle.write_bytes(b'{"kind":"none"}')
    ran = init(capsys, bundle, bundle.parent / "policy.toml")
    assert (ran.code, "[policy.draft.kind]" in ran.err) == (20, True)


# --- check and digest ---------------------------------------------------------------------------------------------------


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy.toml"
    path.write_text(
        'version = 1\npcrs = "any"\n[trust]\nunsafe_accept_emulated_tpm = true\n[accept]\nregions = ["eu"]\n'
    )
    return path


def test_check_says_what_is_accepted_and_warns(capsys: Capture, policy: Path) -> None:
    ran = rlu(capsys, "policy", "check", policy)
    assert (ran.code, ran.err) == (0, "")
    lines = {line.split()[0]: line for line in ran.out.splitlines()}
    assert "! " in lines["pcrs"]
    assert "whatever booted" in lines["pcrs"]
    assert "waived, never verified" in lines["trust.unsafe_accept_emulated_tpm"]
    assert lines["accept.regions"].split(None, 1)[1] == "eu"
    assert "left out" in lines["accept.models"]
    assert "rules deserve a second look" in ran.out
    digest = rlu(capsys, "policy", "digest", policy).out.strip()
    assert f"sha256 {digest}" in ran.out
    found = rlu(capsys, "policy", "check", policy, "--json").json
    assert found["policy_sha256"] == digest
    warned = {rule["rule"] for rule in found["rules"] if "warning" in rule}
    assert warned == {"pcrs", "trust.unsafe_accept_emulated_tpm"}


def test_every_any_and_every_unsafe_setting_is_warned_of() -> None:
    from rlu_attestation.policy import ACCEPT, ANY_GPU, ANY_TCB

    lax = Policy(
        pcrs=None,
        measurements={"tdx": None},
        tcb={"tdx": ANY_TCB},
        gpus=ANY_GPU,
        accept=dict.fromkeys(ACCEPT),
        lock={"engine": None, "gateway": {}},
        hazards=frozenset({"migration"}),
        waivers={"channel": "no TLS in the laboratory"},
        terminators=frozenset({bytes(32)}),
        unsafe_accept_unverified_boot=True,
        roots={"nitro": ROOTS["nitro"]},
    )
    warned = {rule.name for rule in policy_words.describe(lax) if rule.warning}
    assert warned == {
        "pcrs",
        "measurements.tdx",
        "tcb.tdx",
        "gpu",
        *(f"accept.{rule}" for rule in ACCEPT),
        "lock.engine",
        "lock.gateway",
        "tee.accept",
        "waive channel",
        "channel.terminator_spki_sha256",
        "trust.unsafe_accept_unverified_boot",
        "trust.roots.nitro",
    }
    assert not [rule for rule in policy_words.describe(Policy()) if rule.warning]


def test_the_example_has_a_word_for_every_rule(capsys: Capture, tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(EXAMPLE.read_text())
    (tmp_path / "tpm-vendors.pem").write_bytes(vendor_root().der)
    (tmp_path / "registrar.pem").write_bytes(registrar().der)
    rules = {
        rule["rule"]: rule["accepts"] for rule in rlu(capsys, "policy", "check", path, "--json").json["rules"]
    }
    assert rules["tcb.sev-snp"] == "genoa: boot_loader >= 9, microcode >= 72, snp >= 21, tee >= 0"
    assert rules["tcb.tdx"] == "status SWHardeningNeeded or UpToDate, advisories none, evaluation >= 17"
    assert rules["gpu"].startswith("8 GPUs, of 140000 MiB or more, names NVIDIA H200")
    assert rules["time.max_key_age_s"] == "at most 100 days"
    assert rules["lock.engine"] == 'landlock_abi >= 4, network "loopback"'
    assert rules["trust.registrars"].startswith("registrar (sha256 ")


@pytest.mark.parametrize("command", ["check", "digest"])
def test_a_policy_that_cannot_be_used(capsys: Capture, policy: Path, command: str) -> None:
    policy.write_text("version = 1\n[accept]\nregion = []\n")
    ran = rlu(capsys, "policy", command, policy)
    assert ran.code == 2
    assert "accept.region" in ran.err


# --- signatures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alg", ["Ed25519", "ES256"])
def test_keygen_sign_verify(capsys: Capture, policy: Path, alg: str) -> None:
    key = policy.parent / "key.pem"
    made = rlu(capsys, "policy", "keygen", "-o", key, "--alg", alg, "--json")
    assert (made.code, made.json["alg"]) == (0, alg)
    assert os.stat(key).st_mode & 0o777 == 0o600
    assert b"PRIVATE" not in (policy.parent / "key.pub.pem").read_bytes()
    public = ("--key", policy.parent / "key.pub.pem")
    for _ in range(2):  # a second signature takes the place of the first
        assert rlu(capsys, "policy", "sign", policy, "--key", key).code == 0
    assert rlu(capsys, "policy", "verify-signature", policy, *public).code == 0
    found = rlu(capsys, "policy", "verify-signature", policy, *public, "--json").json
    assert (found["result"], found["kid"]) == ("verified", made.json["kid"])
    policy.write_text(policy.read_text() + "\n")
    changed = rlu(capsys, "policy", "verify-signature", policy, *public)
    assert (changed.code, "[policy.signature.digest]" in changed.err) == (10, True)
    (policy.parent / "policy.toml.sig").write_text("{}")
    assert rlu(capsys, "policy", "verify-signature", policy, *public).code == 30
    assert rlu(capsys, "policy", "keygen", "-o", key).code == 2  # never over a key


def test_a_signature_covers_the_files_that_the_policy_names(capsys: Capture, bundle: Path) -> None:
    out = bundle.parent / "policy.toml"
    init(capsys, bundle, out)
    key = bundle.parent / "key.pem"
    rlu(capsys, "policy", "keygen", "-o", key)
    rlu(capsys, "policy", "sign", out, "--key", key, "--signature", bundle.parent / "s")
    check = (
        "policy",
        "verify-signature",
        out,
        "--key",
        bundle.parent / "key.pub.pem",
        "--signature",
        bundle.parent / "s",
    )
    assert rlu(capsys, *check).code == 0
    values = bundle.parent / "policy.references.toml"
    values.write_text(values.read_text() + "# changed\n")
    assert rlu(capsys, *check).code == 10


def test_signing_with_another_key_is_seen(capsys: Capture, policy: Path) -> None:
    for name in ("a.pem", "b.pem"):
        rlu(capsys, "policy", "keygen", "-o", policy.parent / name)
    rlu(capsys, "policy", "sign", policy, "--key", policy.parent / "a.pem")
    ran = rlu(capsys, "policy", "verify-signature", policy, "--key", policy.parent / "b.pub.pem")
    assert (ran.code, "[policy.signature.kid]" in ran.err) == (10, True)
    swapped = rlu(capsys, "policy", "sign", policy, "--key", policy.parent / "a.pub.pem")
    assert (swapped.code, "[policy.key]" in swapped.err) == (2, True)
