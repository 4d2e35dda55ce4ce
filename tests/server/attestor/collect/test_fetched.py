"""What `rlu collateral fetch --for-attestor` lays out is what the attestor staples: from the vendors' answers to items that verify."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes import amd, intel
from fakes.collecting import BINDINGS, items
from fakes.configfs_tsm import ConfigfsTsm, Provider, certificate_table, snp
from fakes.deployment import AT
from fakes.intel import pem as nvml_pem
from fakes.nscq import FakeFabric, FakeSwitch
from fakes.nvidia_steps import failures as nvidia_failures
from fakes.nvidia_steps import roots as nvidia_roots
from fakes.nvml import FakeDriver, FakeGpu
from fakes.publishers import KDS, Publishers, pem
from fakes.sev_snp_steps import failures as snp_failures
from fakes.tdx_steps import failures as tdx_failures
from fakes.tee import CHIP, NODE, PLATFORM, ROOTS
from fakes.terminal import Ran, rlu
from rlu_attestation import x509
from rlu_attestation.collateral.stapling import STAPLING
from rlu_attestation.evidence import nvidia as evidence
from rlu_attestation.evidence.sev_snp import ProductLine
from rlu_attestation.evidence.sev_snp import Root as SnpRoot
from rlu_attestation.evidence.tdx import Root as TdxRoot
from rlu_server.attestor.collect import collectors_for
from rlu_server.attestor.collect.nvidia import NvidiaCollector
from rlu_server.attestor.collect.sev_snp import SevSnpCollector
from rlu_server.attestor.collect.tdx import TdxCollector
from rlu_server.attestor.collect.tsm import TsmReports
from rlu_server.attestor.errors import NotReady
from rlu_server.settings import load

Capture = pytest.CaptureFixture[str]
KINDS = ("sev-snp", "tdx", "nvidia", "nvidia-rim")


@pytest.fixture(scope="module")
def publishers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Publishers]:
    with Publishers(tmp_path_factory.mktemp("publishers")) as found:
        yield found


@pytest.fixture
def published(publishers: Publishers) -> Iterator[Publishers]:
    yield publishers
    publishers.reset()


def fetch(capsys: Capture, published: Publishers, place: Path, item: bytes, *more: object) -> Ran:
    for kind in KINDS:
        (place / f"{kind}.pem").write_bytes(pem(*(root.raw for root in ROOTS[kind])))
    roots = ", ".join(f'{kind} = ["{kind}.pem"]' for kind in KINDS)
    (place / "policy.toml").write_text(f"version = 1\n[trust]\nroots = {{ {roots} }}\n")
    (place / "evidence").write_bytes(item)
    return rlu(
        capsys,
        *("collateral", "fetch", place / "evidence", "-o", place / "store", "--as-of", AT),
        *("--for-attestor", place / "collateral", "--policy", place / "policy.toml"),
        *("--proxy", published.proxy, "--ca", published.authorities, "--allow-host", "crl.example", *more),
    )


def names(place: Path) -> list[str]:
    return sorted(path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file())


def test_sev_snp_from_a_bare_report(capsys: Capture, published: Publishers, tmp_path: Path) -> None:
    """The host hands out nothing: certificates and list come from AMD, and nothing is moved or renamed by hand."""
    ark = x509.parse(amd.ark(CHIP.product).der)
    roots = (SnpRoot(ProductLine(CHIP.product), ark.fingerprint, ark.spki_sha256),)
    with ConfigfsTsm(snp(CHIP, table=certificate_table())) as configfs:
        collector = SevSnpCollector(
            TsmReports(configfs.path, lambda _: None), tmp_path / "collateral" / "sev-snp"
        )
        with pytest.raises(NotReady) as caught:
            items(collector)
        assert caught.value.code == "sev-snp.endorsement"
        ran = fetch(capsys, published, tmp_path, CHIP.report(bytes(64)))
        assert (ran.code, ran.err) == (0, "")
        assert {Path(name).suffix for name in names(tmp_path / "collateral" / "sev-snp")} == {".crl", ".pem"}
        made = items(collector)
    for item, binding in zip(made, BINDINGS, strict=True):
        assert snp_failures(item, binding, roots) == []


def test_tdx(capsys: Capture, published: Publishers, tmp_path: Path) -> None:
    provider = Provider("tdx_guest", lambda data, level: PLATFORM.quote(data).data, sizes=range(64, 65))
    roots = (TdxRoot.of(x509.parse(intel.root().der)),)
    with ConfigfsTsm(provider) as configfs:
        reports = TsmReports(configfs.path, lambda _: None)
        collector = TdxCollector(reports, tmp_path / "collateral" / "tdx", tmp_path / "CCEL")
        item = items(collector)[0]
        assert set(tdx_failures(item, BINDINGS[0], roots)) == {"tdx.collateral.missing"}
        assert fetch(capsys, published, tmp_path, item).code == 0
        assert names(tmp_path / "collateral") == ["tdx/collateral.json"]
        item = items(collector)[0]
    assert tdx_failures(item, BINDINGS[0], roots) == []


def test_gpus_and_switches(capsys: Capture, published: Publishers, tmp_path: Path) -> None:
    gpus = [
        FakeGpu(report=device.report, chain=nvml_pem(*device.chain()), vbios=device.vbios)
        for device in NODE.gpus
    ]
    switches = [FakeSwitch(device.report, nvml_pem(*device.chain())) for device in NODE.switches]
    collector = NvidiaCollector(
        tmp_path / "collateral" / "nvidia",
        FakeDriver(tmp_path / "driver", gpus).shared_object,
        FakeFabric(tmp_path / "fabric", switches).shared_object,
    )
    item = items(collector)[0]
    assert "nvidia.revocation.missing" in nvidia_failures(item, BINDINGS[0], nvidia_roots())
    assert fetch(capsys, published, tmp_path, item).code == 0
    item = items(collector)[0]
    assert nvidia_failures(item, BINDINGS[0], nvidia_roots()) == []
    assert len(evidence.parse(item).rims) == 3


def test_a_later_fetch_takes_the_place_of_the_earlier(
    capsys: Capture, published: Publishers, tmp_path: Path
) -> None:
    report, place = CHIP.report(bytes(64)), tmp_path / "collateral" / "sev-snp"
    assert fetch(capsys, published, tmp_path, report).code == 0
    first = set(names(place))
    (place / "cloud.pem").write_bytes(pem(amd.ark("Milan").der))
    # Another list: what is in the store is no longer asked for, so it goes as if it were a new directory.
    for path in (tmp_path / "store").glob("x509-crl-*"):
        path.unlink()
    published.change(f"{KDS}/vcek/v1/{CHIP.product}/crl", content=amd.ark(CHIP.product).revoke(0x777))
    ran = fetch(capsys, published, tmp_path, report, "--json")
    assert ran.code == 0
    assert sorted(Path(path).name for path in ran.json["for_attestor"]) == sorted(
        set(names(place)) - {"cloud.pem"}
    )
    later = set(names(place))
    assert "cloud.pem" in later  # somebody else's
    assert len(later - {"cloud.pem"}) == len(first) == 2
    assert len(first & later) == 1  # the certificates are the same, the list is another


def test_what_could_not_be_had_leaves_the_earlier_there(
    capsys: Capture, published: Publishers, tmp_path: Path
) -> None:
    report, place = CHIP.report(bytes(64)), tmp_path / "collateral" / "sev-snp"
    assert fetch(capsys, published, tmp_path, report).code == 0
    first = names(place)
    for path in (tmp_path / "store").glob("x509-crl-*"):
        path.unlink()
    published.change(f"{KDS}/vcek/v1/{CHIP.product}/crl", status=404)
    assert fetch(capsys, published, tmp_path, report).code == 3
    assert names(place) == first


def test_every_kind_that_staples_is_laid_out() -> None:
    """`STAPLING` is the list of directories that the attestor reads: those of its table of collectors."""
    from rlu_server.attestor import collect

    text = Path(collect.__file__).read_text("utf-8")
    given = {
        kind for kind in ("sev-snp", "tdx", "nitro", "nitrotpm", "gcp-vtpm", "azure-vtpm") if kind in text
    }
    assert {*given, "nvidia"} == set(STAPLING)
    settings = load(None, {}, {"attestation": {"gpu": {"vendor": "nvidia", "evidence": "nvidia"}}})
    assert len(collectors_for(settings)) == 1
