"""`rlu collateral`: fetch behind a proxy, list with dates, and one file that verifies ten years later as of then, and only as of then."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fakes import amd, aws, intel
from fakes.deployment import AT, NONCE, SPKI, Deployment
from fakes.publishers import KDS, NODE, Publishers, pem
from fakes.tee import CHIP, ENCLAVE, GPUS, PLATFORM, ROOTS, Tee, padded
from fakes.terminal import Ran, rlu
from rlu_attestation import bundle as bundles
from rlu_attestation import policy_file
from rlu_attestation.bundle import Bundle
from rlu_attestation.collateral.store import Store
from rlu_attestation.policy_sources import read_bundled
from rlu_attestation.verifier import Context, verify

TEN_YEARS = 10 * 366 * 86400
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def publishers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Publishers]:
    with Publishers(tmp_path_factory.mktemp("publishers")) as found:
        yield found


@pytest.fixture
def published(publishers: Publishers) -> Iterator[Publishers]:
    publishers.seen.clear()
    yield publishers
    publishers.reset()


def bare(kind: str, gpus: bool = False) -> Bundle:
    """A genuine bundle whose evidence came without collateral, with the nonce and channel of who asked."""

    def items(whole: dict[str, bytes], root: bytes) -> dict[str, bytes]:
        stripped = {
            "sev-snp": lambda: replace(amd.parts(CHIP, padded(root)), crl=None).item(),
            "tdx": lambda: replace(intel.parts(PLATFORM, padded(root)), collateral=None).item(),
            "nitro": lambda: replace(aws.parts(ENCLAVE, root), crls=None).item(),
        }
        found = {kind: stripped[kind]()}
        if gpus:
            found["nvidia"] = replace(NODE.parts(root), rims=[], ocsp=[]).item()
        return found

    tee = Tee(kind, GPUS if gpus else None)
    return replace(tee.bundle(items), nonce=NONCE, channel=SPKI)


def write_policy(directory: Path, kind: str) -> Path:
    kinds = [kind, "nvidia", "nvidia-rim"]
    for name in kinds:
        (directory / f"{name}.pem").write_bytes(pem(*(root.raw for root in ROOTS[name])))
    roots = ", ".join(f'{name} = ["{name}.pem"]' for name in kinds)
    path = directory / "policy.toml"
    path.write_text(
        f"""version = 1
gpu = "any"
[measurements]
{kind} = "any"
[tcb]
sev-snp = "any"
tdx = "any"
[trust]
roots = {{ {roots} }}
[accept]
hardware_profiles = "any"
regions = "any"
boundaries = "any"
sites = "any"
models = "any"
engines = "any"
engine_arguments = "any"
gateways = "any"
gateway_images = "any"
debug_states = ["disabled"]
[channel]
origins = ["gateway-memory"]
[lock]
attestor = "any"
engine = "any"
gateway = "any"
[minimum_source]
default = "asserted"
key = "hardware"
[profiles.lab]
keys = ["{kind}"]
gpus = {{ count = 2, names = ["NVIDIA H200"], memory_mib = 280000 }}
"""
    )
    return path


def fetch(capsys: Capture, published: Publishers, source: Path, *more: object) -> Ran:
    return rlu(
        capsys,
        *("collateral", "fetch", source, "-o", source.parent / "collateral", "--as-of", AT),
        *("--proxy", published.proxy, "--ca", published.authorities, "--allow-host", "crl.example", *more),
    )


def prepared(directory: Path, kind: str, gpus: bool = False) -> tuple[Path, Path]:
    source = directory / "bundle.rlu"
    source.write_bytes(bare(kind, gpus).encode())
    return source, write_policy(directory, kind)


# --- from evidence without collateral to a file for years ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "gpus"), [("sev-snp", False), ("tdx", False), ("nitro", False), ("tdx", True)]
)
def test_one_file_that_verifies_ten_years_later(
    capsys: Capture, published: Publishers, tmp_path: Path, kind: str, gpus: bool
) -> None:
    source, policy = prepared(tmp_path, kind, gpus)
    assert rlu(capsys, "verify", source, "--policy", policy, "--as-of", AT, "-q").code == 10
    ran = fetch(capsys, published, source, "--policy", policy)
    assert (ran.code, ran.err) == (0, "")
    assert ": fetched, until 2026-" in ran.out
    out = tmp_path / "offline.rlu"
    made = rlu(
        capsys,
        *("collateral", "bundle", source, "--collateral", tmp_path / "collateral", "--policy", policy),
        *("-o", out, "--as-of", AT, "--json"),
    )
    assert (made.code, made.json["result"]) == (0, "verified")
    assert ROOTS[kind][0].fingerprint.hex() in made.json["roots"]
    # As of then it verifies, by the policy inside, which counts for who knows its digest; nobody is asked.
    asked = list(published.seen)
    held = bundles.parse(out.read_bytes())
    accepted = read_bundled(held.policy, bytes.fromhex(made.json["policy_sha256"]))
    assert verify(Context(bundle=held, policy=accepted, at=AT)).exit_code == 0
    assert rlu(capsys, "verify", out, "--policy", policy, "--as-of", AT, "-q").code == 0
    # As of now, ten years later, everything in it is over.
    later = verify(Context(bundle=held, policy=accepted, at=AT + TEN_YEARS))
    codes = {step.code for step in later.failures}
    assert later.exit_code == 10
    assert "statement.time.expired" in codes
    assert codes & {"sev-snp.revocation.stale", "tdx.tcb_info.stale", "nitro.chain.expired"}
    assert published.seen == asked


def test_bundling_adds_nothing_twice(capsys: Capture, published: Publishers, tmp_path: Path) -> None:
    source, policy = prepared(tmp_path, "sev-snp")
    fetch(capsys, published, source, "--policy", policy)
    for name in ("once.rlu", "twice.rlu"):
        rlu(
            capsys,
            *("collateral", "bundle", source, "--collateral", tmp_path / "collateral", "--policy", policy),
            *("-o", tmp_path / name, "--as-of", AT),
        )
        source = tmp_path / name
    assert (tmp_path / "once.rlu").read_bytes() == (tmp_path / "twice.rlu").read_bytes()
    assert len(bundles.parse(source.read_bytes()).collateral) == 1


def test_a_bundle_that_does_not_verify_is_not_written(capsys: Capture, tmp_path: Path) -> None:
    source, policy = prepared(tmp_path, "sev-snp")
    out = tmp_path / "offline.rlu"
    common = ("collateral", "bundle", source, "--policy", policy, "-o", out)
    ran = rlu(capsys, *common, "--as-of", AT)
    assert ran.code == 10
    assert "sev-snp.revocation.missing" in ran.out
    assert not out.exists()
    waived = policy.read_text() + '[[waive]]\nstep = "sev-snp.revocation"\nreason = "no network"\n'
    policy.write_text(waived)
    assert rlu(capsys, *common, "--as-of", AT).code == 11
    assert out.exists()


def finished(capsys: Capture, published: Publishers, directory: Path) -> tuple[Path, Path]:
    source, policy = prepared(directory, "tdx")
    fetch(capsys, published, source, "--policy", policy)
    out = directory / "offline.rlu"
    rlu(
        capsys,
        *("collateral", "bundle", source, "--collateral", directory / "collateral", "--policy", policy),
        *("-o", out, "--as-of", AT),
    )
    return out, policy


def test_a_bundle_that_was_cut_or_changed(capsys: Capture, published: Publishers, tmp_path: Path) -> None:
    out, policy = finished(capsys, published, tmp_path)
    whole, at = out.read_bytes(), ("--policy", policy, "--as-of", AT, "-q")
    assert rlu(capsys, "verify", out, *at).code == 0
    for size in (0, 1, len(whole) // 2, len(whole) - 3):
        out.write_bytes(whole[:size])
        assert rlu(capsys, "verify", out, *at).code in (20, 30)
    held = bundles.parse(whole)
    piece = held.collateral[0]
    for data in (piece.data.replace(b"UpToDate", b"OutOfDat", 1), piece.data[:-9]):
        out.write_bytes(replace(held, collateral=(replace(piece, data=data),)).encode())
        assert rlu(capsys, "verify", out, *at).code in (10, 30)
    out.write_bytes(replace(held, collateral=()).encode())
    assert rlu(capsys, "verify", out, *at).code == 10


def test_the_policy_inside_counts_only_for_who_knows_it(
    capsys: Capture, published: Publishers, tmp_path: Path
) -> None:
    out, policy = finished(capsys, published, tmp_path)
    held = bundles.parse(out.read_bytes())
    assert held.policy is not None
    assert [name for name, _ in held.policy.files] == ["nvidia-rim.pem", "nvidia.pem", "tdx.pem"]
    digest = policy_file.digest_of(policy.read_bytes(), dict(held.policy.files))
    assert rlu(capsys, "policy", "digest", policy).out.strip() == digest.hex()
    from rlu_attestation.errors import RluError

    lax = replace(held.policy, toml=held.policy.toml.replace(b'["disabled"]', b'"any"'))
    with pytest.raises(RluError):
        read_bundled(lax, digest)


# --- fetch and list -----------------------------------------------------------------------------------------------------


def test_fetch_says_what_failed_and_goes_on_later(
    capsys: Capture, published: Publishers, tmp_path: Path
) -> None:
    source, policy = prepared(tmp_path, "tdx", gpus=True)
    url = next(url for url in published.answers if "NV_GPU_DRIVER" in url)
    published.change(url, status=500)
    ran = fetch(capsys, published, source, "--policy", policy, "--json")
    assert (ran.code, ran.json["exit_code"]) == (3, 3)
    failed = [piece for piece in ran.json["pieces"] if "code" in piece]
    assert [(piece["code"], piece["kind"]) for piece in failed] == [("fetch.status", "nvidia-rim")]
    published.reset()
    asked = len(published.seen)
    again = fetch(capsys, published, source, "--policy", policy)
    assert again.code == 0
    assert "already here" in again.out
    assert 0 < len(published.seen) - asked < 6  # the RIM, and what it wants


def test_what_is_not_authentic_ends_as_rejected(
    capsys: Capture, published: Publishers, tmp_path: Path
) -> None:
    source, policy = prepared(tmp_path, "sev-snp")
    published.change(f"{KDS}/vcek/v1/Milan/crl", content=amd.ark("Genoa").revoke())
    ran = fetch(capsys, published, source, "--policy", policy)
    assert ran.code == 10
    assert "collateral.crl.issuer" in ran.out
    assert not (tmp_path / "collateral").exists()


def test_a_warning_is_shown(capsys: Capture, published: Publishers, tmp_path: Path) -> None:
    source, policy = prepared(tmp_path, "sev-snp")
    published.change(f"{KDS}/vcek/v1/Milan/crl", content=amd.ark().revoke(CHIP.issuer.serial))
    ran = fetch(capsys, published, source, "--policy", policy)
    assert (ran.code, "! REVOKED: SEV-Milan" in ran.out) == (0, True)


def test_a_pccs_and_mirrors(capsys: Capture, published: Publishers, tmp_path: Path) -> None:
    source, policy = prepared(tmp_path, "tdx")
    ran = fetch(capsys, published, source, "--policy", policy, "--pccs", "https://pccs.example/")
    assert ran.code == 0
    assert {url.split("/")[2] for url in published.seen} == {"pccs.example"}


def test_hosts_that_are_not_listed(capsys: Capture, published: Publishers, tmp_path: Path) -> None:
    source, policy = prepared(tmp_path, "nitro")
    ran = rlu(
        capsys,
        *("collateral", "fetch", source, "-o", tmp_path / "c", "--as-of", AT, "--policy", policy),
        *("--proxy", published.proxy, "--ca", published.authorities),
    )
    assert (ran.code, "fetch.host" in ran.out, published.seen) == (3, True, [])


def test_a_tpm_needs_nothing_that_its_certificates_do_not_name(
    capsys: Capture, published: Publishers, tmp_path: Path
) -> None:
    source = tmp_path / "bundle.rlu"
    source.write_bytes(Deployment().bundle().encode())
    ran = fetch(capsys, published, source)
    assert (ran.code, "Nothing is published" in ran.out) == (0, True)


def test_list(capsys: Capture, published: Publishers, tmp_path: Path) -> None:
    source, policy = prepared(tmp_path, "tdx", gpus=True)
    fetch(capsys, published, source, "--policy", policy)
    directory = tmp_path / "collateral"
    listed = rlu(capsys, "collateral", "list", directory, "--as-of", AT, "--json").json["pieces"]
    assert {piece["state"] for piece in listed} == {"answers"}
    assert {piece["kind"] for piece in listed} == {"nvidia-rim", "ocsp-response", "tdx-collateral"}
    assert all((directory / piece["name"]).is_file() for piece in listed)
    text = rlu(capsys, "collateral", "list", directory, "--as-of", AT + TEN_YEARS).out
    assert "over" in text
    assert "FMSPC 90c06f000000" in text
    early = rlu(capsys, "collateral", "list", directory, "--as-of", AT - TEN_YEARS, "--json").json["pieces"]
    assert {piece["state"] for piece in early} == {"not yet"}
    out = tmp_path / "offline.rlu"
    rlu(
        capsys,
        *("collateral", "bundle", source, "--collateral", directory, "--policy", policy),
        *("-o", out, "--as-of", AT),
    )
    of_bundle = rlu(capsys, "collateral", "list", out, "--as-of", AT, "--json").json["pieces"]
    assert of_bundle == listed
    assert "no collateral" in rlu(capsys, "collateral", "list", source).out


def test_a_file_that_was_changed_is_seen(capsys: Capture, published: Publishers, tmp_path: Path) -> None:
    source, policy = prepared(tmp_path, "sev-snp")
    fetch(capsys, published, source, "--policy", policy)
    (path,) = (tmp_path / "collateral").iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    ran = rlu(capsys, "collateral", "list", tmp_path / "collateral")
    assert (ran.code, "[collateral.changed]" in ran.err) == (2, True)
    assert fetch(capsys, published, source, "--policy", policy).code == 2
    (tmp_path / "collateral" / "notes.txt").write_text("mine")
    path.unlink()
    assert Store(tmp_path / "collateral").pieces() == ()


def test_help_names_the_hosts(capsys: Capture) -> None:
    from rlu_attestation.collateral.want import PUBLISHERS

    text = "".join(rlu(capsys, "collateral", "fetch", "--help").out.split())
    assert all(host in text for host in PUBLISHERS)


def test_evidence_that_cannot_be_read(tmp_path: Path, capsys: Capture) -> None:
    ran = rlu(capsys, "collateral", "fetch", tmp_path / "absent", "-o", tmp_path / "c")
    assert (ran.code, "[file.unreadable]" in ran.err) == (2, True)
    (tmp_path / "garbage").write_bytes(b"garbage")
    assert rlu(capsys, "collateral", "fetch", tmp_path / "garbage", "-o", tmp_path / "c").code == 30
