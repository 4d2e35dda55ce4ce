"""Fetching from vendors' services: what is written is authentic, in force and about the evidence; everything else is refused and told."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fakes import amd, aws, intel, nvidia
from fakes.deployment import AT
from fakes.publishers import (
    INTEL_ROOT_LIST,
    KDS,
    NODE,
    OCSP,
    PCS,
    RIM,
    Published,
    Publishers,
    of_amd,
    pem,
    rim_ids,
)
from fakes.tee import CHIP, GPUS, MACHINES, PLATFORM, ROOTS, Tee, padded
from rlu_attestation.collateral import run, wants
from rlu_attestation.collateral.http import MAX_ANSWER, Network
from rlu_attestation.collateral.run import Fetched
from rlu_attestation.collateral.store import Store, name_of
from rlu_attestation.collateral.want import FetchError, Services
from rlu_attestation.errors import RluError
from rlu_attestation.policy import Policy

ROOT = b"\x07" * 32
TRUST = Policy(roots=ROOTS)
SNP = replace(amd.parts(CHIP, padded(ROOT)), crl=None).item()
TDX = replace(intel.parts(PLATFORM, padded(ROOT)), collateral=None).item()
NITRO = replace(aws.parts(aws.Module("nitro"), ROOT), crls=None).item()
GPU = replace(NODE.parts(ROOT), rims=[], ocsp=[]).item()
ITEMS = {"sev-snp": SNP, "tdx": TDX, "nitro": NITRO, "nvidia": GPU}


def virtual(name: str) -> bytes:
    """The item of a virtual TPM, without what is published about what vouches for it."""
    machine = MACHINES[name]()
    parts: Any = machine.parts(ROOT)
    if name == "gcp-vtpm":
        return bytes(replace(parts, crls=()).encode())
    beside = {key: value for key, value in parts.hardware.items() if key not in ("crl", "collateral")}
    return bytes(replace(parts, hardware=beside).encode())


KINDS = {
    "sev-snp": {"x509-crl"},
    "tdx": {"tdx-collateral"},
    "nitro": {"x509-crl"},
    "nvidia": {"nvidia-rim", "ocsp-response"},
}
DRIVER, VBIOS, SWITCH = (f"{RIM}/v1/rim/{name}" for name in rim_ids())


@pytest.fixture(scope="module")
def publishers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Publishers]:
    with Publishers(tmp_path_factory.mktemp("publishers")) as found:
        yield found


@pytest.fixture
def published(publishers: Publishers) -> Iterator[Publishers]:
    """Every change is undone."""
    publishers.seen.clear()
    yield publishers
    publishers.reset()


def network(published: Publishers, **changes: Any) -> Network:
    settings: dict[str, Any] = {
        "proxy": published.proxy,
        "tls": published.client_tls(),
        "hosts": ("crl.example", "pccs.example", "pki.example"),
        "timeout_s": 5,
        "sleep": lambda seconds: None,
    }
    return Network(**(settings | changes))


def fetched(
    published: Publishers,
    data: bytes,
    directory: Path,
    at: int = AT,
    services: Services | None = None,
    **changes: Any,
) -> list[Fetched]:
    settings = wants.Settings(TRUST, at, services or Services())
    return list(run.fetch(wants.of_file(data, settings), network(published, **changes), Store(directory)))


def codes(found: list[Fetched]) -> list[str]:
    return sorted({result.failure.code for result in found if result.failure is not None})


@pytest.mark.parametrize("kind", sorted(ITEMS))
def test_what_evidence_needs_is_fetched_checked_and_kept(
    published: Publishers, tmp_path: Path, kind: str
) -> None:
    found = fetched(published, ITEMS[kind], tmp_path)
    assert codes(found) == []
    assert {piece for piece, _ in Store(tmp_path).pieces()} == KINDS[kind]
    assert all(result.checked is not None and result.checked.until is not None for result in found)
    asked = list(published.seen)
    assert asked
    again = fetched(published, ITEMS[kind], tmp_path)
    assert all(result.kept for result in again)
    assert published.seen == asked  # nothing was asked again


def test_a_node_needs_an_answer_about_every_certificate(published: Publishers, tmp_path: Path) -> None:
    found = fetched(published, GPU, tmp_path)
    assert sum(result.kind == "nvidia-rim" for result in found) == 3
    assert sum(result.kind == "ocsp-response" for result in found) == len(NODE.authorities()) + 6


def test_a_bundle_of_everything(published: Publishers, tmp_path: Path) -> None:
    tee = Tee("tdx", GPUS)
    bundle = tee.bundle(
        lambda items, root: {
            "tdx": replace(intel.parts(PLATFORM, padded(root)), collateral=None).item(),
            "nvidia": replace(NODE.parts(root), rims=[], ocsp=[]).item(),
        }
    )
    assert codes(fetched(published, bundle.encode(), tmp_path)) == []
    assert {kind for kind, _ in Store(tmp_path).pieces()} == KINDS["tdx"] | KINDS["nvidia"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("azure-vtpm on sev-snp", "x509-crl"),
        ("azure-vtpm on tdx", "tdx-collateral"),
        ("gcp-vtpm", "x509-crl"),
    ],
)
def test_virtual_tpms(published: Publishers, tmp_path: Path, name: str, kind: str) -> None:
    assert codes(fetched(published, virtual(name), tmp_path)) == []
    assert [piece for piece, _ in Store(tmp_path).pieces()] == [kind]


def test_a_bare_quote(published: Publishers, tmp_path: Path) -> None:
    data = PLATFORM.quote(padded(ROOT)).data
    assert codes(fetched(published, data + bytes(64), tmp_path)) == []


@pytest.mark.parametrize("product", ["Milan", "Genoa", "Turin"])
@pytest.mark.parametrize("version", [2, 3])
def test_a_bare_report_gets_its_certificates_too(
    published: Publishers, tmp_path: Path, product: str, version: int
) -> None:
    from rlu_attestation import x509

    if (product, version) == ("Turin", 2):
        return  # Turin reports name their product always
    chip = amd.Chip(product, label=f"bare {product}", version=version)
    published.answers |= of_amd(chip)
    trust = Policy(roots={"sev-snp": (x509.parse(amd.ark(product).der),)})
    settings = wants.Settings(trust, AT, Services())
    data = chip.report(padded(ROOT))
    found = list(run.fetch(wants.of_file(data, settings), network(published), Store(tmp_path)))
    assert codes(found) == []
    assert [kind for kind, _ in Store(tmp_path).pieces()] == ["x509-certificates", "x509-crl"]


def test_a_pccs_in_the_place_of_intel(published: Publishers, tmp_path: Path) -> None:
    services = Services(intel_pcs="https://pccs.example", intel_crl="")
    assert codes(fetched(published, TDX, tmp_path, services=services)) == []
    assert all("pccs.example" in url for url in published.seen)
    assert {kind for kind, _ in Store(tmp_path).pieces()} == {"tdx-collateral"}


# --- what is not authentic ----------------------------------------------------------------------------------------------

TCB, IDENTITY = (
    f"{PCS}/tdx/certification/v4/tcb?fmspc=90c06f000000",
    f"{PCS}/tdx/certification/v4/qe/identity",
)
SNP_LIST = f"{KDS}/vcek/v1/Milan/crl"
AWS_LIST = "https://crl.example/root.crl"
FORGED = amd.Authority("ARK-Milan", 0x10000, kind="rsa2048", label="forged/")
OTHER_INTEL = intel.Authority(intel.ROOT, 0x1001, path_length=1, label="forged/")


def flipped(data: bytes) -> bytes:
    return data[:-20] + bytes([data[-20] ^ 1]) + data[-19:]


def rewritten(published: Publishers, url: str, old: bytes, new: bytes) -> None:
    content = published.answers[url].content
    assert old in content
    published.change(url, content=content.replace(old, new))


def rim_of(data: bytes) -> bytes:
    return json.dumps({"rim": base64.b64encode(data).decode()}).encode()


Change = Callable[[Publishers], None]
PERTURBATIONS: dict[str, tuple[str, Change, str]] = {
    "snp-list-forged": (
        "sev-snp",
        lambda p: p.change(SNP_LIST, content=FORGED.revoke()),
        "collateral.crl.signature",
    ),
    "snp-list-of-another-line": (
        "sev-snp",
        lambda p: p.change(SNP_LIST, content=amd.ark("Genoa").revoke()),
        "collateral.crl.issuer",
    ),
    "snp-list-changed": (
        "sev-snp",
        lambda p: p.change(SNP_LIST, content=flipped(p.answers[SNP_LIST].content)),
        "collateral.crl.signature",
    ),
    "snp-list-stale": (
        "sev-snp",
        lambda p: p.change(SNP_LIST, content=amd.ark().revoke(next_update=amd.AT - timedelta(days=1))),
        "collateral.crl.stale",
    ),
    "snp-list-of-the-future": (
        "sev-snp",
        lambda p: p.change(SNP_LIST, content=amd.ark().revoke(this_update=amd.AT + timedelta(days=1))),
        "collateral.crl.not_yet_valid",
    ),
    "snp-list-garbage": ("sev-snp", lambda p: p.change(SNP_LIST, content=b"garbage"), "crl.encoding"),
    "snp-list-is-a-web-page": ("sev-snp", lambda p: p.change(SNP_LIST, type="text/html"), "fetch.type"),
    "aws-list-of-another-authority": (
        "nitro",
        lambda p: p.change(AWS_LIST, content=aws.region().revoke()),
        "collateral.crl.issuer",
    ),
    "tcb-info-changed": (
        "tdx",
        lambda p: rewritten(p, TCB, b'"tcbEvaluationDataNumber":18', b'"tcbEvaluationDataNumber":19'),
        "tdx.tcb_info.signature",
    ),
    "tcb-info-of-another-platform": ("tdx", lambda p: other_platform(p), "collateral.fmspc"),
    "tcb-info-not-json": ("tdx", lambda p: p.change(TCB, content=b"{}"), "tdx.collateral.encoding"),
    "tcb-info-without-its-chain": ("tdx", lambda p: p.change(TCB, headers={}), "fetch.header"),
    "tcb-info-of-another-root": ("tdx", lambda p: other_root(p), "tdx.tcb_info.signer.root"),
    "qe-identity-changed": (
        "tdx",
        lambda p: rewritten(p, IDENTITY, b'"isvprodid":2', b'"isvprodid":3'),
        "tdx.qe_identity.signature",
    ),
    "root-list-of-the-pck-authority": (
        "tdx",
        lambda p: p.change(INTEL_ROOT_LIST, content=intel.platform_ca().revoke()),
        "tdx.revocation.root_ca_crl.missing",
    ),
    "root-list-absent": ("tdx", lambda p: p.change(INTEL_ROOT_LIST, status=404), "fetch.status"),
    "rim-changed": (
        "nvidia",
        lambda p: p.change(
            DRIVER,
            content=rim_of(nvidia.rim(NODE.gpus[0], False).xml().replace(b'revision="r1"', b'revision="r2"')),
        ),
        "collateral.rim.digest",
    ),
    "rim-of-another-version": (
        "nvidia",
        lambda p: p.change(DRIVER, content=rim_of(nvidia.rim(NODE.gpus[0], True).xml())),
        "collateral.rim.version",
    ),
    "rim-of-another-root": (
        "nvidia",
        lambda p: p.change(DRIVER, content=rim_of(forged_rim())),
        "collateral.rim.root",
    ),
    "rim-with-another-digest": (
        "nvidia",
        lambda p: rewritten(p, DRIVER, b'"sha256": "', b'"sha256": "00'),
        "fetch.answer",
    ),
    "rim-not-base64": ("nvidia", lambda p: p.change(DRIVER, content=b'{"rim":"%"}'), "fetch.answer"),
    "rim-absent": ("nvidia", lambda p: p.change(VBIOS, status=404), "fetch.status"),
    "ocsp-about-another": (
        "nvidia",
        lambda p: setattr(p, "respond", lambda content: ocsp(nvidia.rim_chain()[0])),
        "collateral.ocsp.missing",
    ),
    "ocsp-error": (
        "nvidia",
        lambda p: setattr(
            p, "respond", lambda content: Published(b"\x30\x03\x0a\x01\x06", "application/ocsp-response")
        ),
        "nvidia.ocsp.encoding",
    ),
}


def ocsp(authority: nvidia.Authority, **changes: Any) -> Published:
    return Published(nvidia.ocsp(authority, **changes), "application/ocsp-response")


def forged_rim() -> bytes:
    chain = nvidia.rim_chain("forged/")
    found = nvidia.rim(
        NODE.gpus[0], False, chain=tuple(authority.der for authority in chain), key=chain[0].key
    )
    return found.xml()


def other_platform(published: Publishers) -> None:
    text = intel.text_of(intel.tcb_info(fmspc="00906ED50000"))
    resigned(published, TCB, "tcbInfo", text, intel.signing())


def other_root(published: Publishers) -> None:
    signer = intel.Authority(intel.SIGNING, 0x3001, OTHER_INTEL, ca=False, usages=(0, 1), label="forged/")
    resigned(published, TCB, "tcbInfo", intel.text_of(intel.tcb_info()), signer, OTHER_INTEL)


def resigned(
    published: Publishers,
    url: str,
    member: str,
    text: str,
    signer: intel.Authority,
    root: intel.Authority | None = None,
) -> None:
    from urllib.parse import quote

    signature = intel.raw_signature(signer.key, text.encode()).hex()  # type: ignore[arg-type]
    chain = quote(pem(signer.der, (root or intel.root()).der).decode())
    published.change(
        url,
        content=f'{{"{member}":{text},"signature":"{signature}"}}'.encode(),
        headers={"TCB-Info-Issuer-Chain": chain},
    )


@pytest.mark.parametrize("name", sorted(PERTURBATIONS))
def test_what_is_not_authentic_is_not_written(published: Publishers, tmp_path: Path, name: str) -> None:
    kind, change, code = PERTURBATIONS[name]
    whole = {result.name for result in fetched(published, ITEMS[kind], tmp_path / "genuine")}
    change(published)
    found = fetched(published, ITEMS[kind], tmp_path / "changed")
    assert code in codes(found)
    failed = {result.name for result in found if result.failure is not None}
    written = {name_of(kind, data) for kind, data in Store(tmp_path / "changed").pieces()}
    assert written == {result.file for result in found if result.failure is None}
    assert not list((tmp_path / "changed").glob(".*"))
    assert failed <= whole
    # What failed is asked for again, and what was had is not.
    published.reset()
    assert codes(fetched(published, ITEMS[kind], tmp_path / "changed")) == []


def test_a_list_that_revokes_is_written_and_told(published: Publishers, tmp_path: Path) -> None:
    published.change(SNP_LIST, content=amd.ark().revoke(CHIP.issuer.serial))
    (found,) = fetched(published, SNP, tmp_path)
    assert found.checked is not None
    assert found.checked.warning == "REVOKED: SEV-Milan"
    assert len(Store(tmp_path).pieces()) == 1


def test_an_answer_that_revokes_is_written_and_told(published: Publishers, tmp_path: Path) -> None:
    good = published.respond

    def respond(content: bytes) -> Published:
        from cryptography.x509 import ocsp as requests

        serial = requests.load_der_ocsp_request(content).serial_number
        brom = NODE.gpus[0].brom
        return ocsp(brom, status="revoked") if serial == brom.serial else good(content)

    published.respond = respond
    found = fetched(published, GPU, tmp_path)
    assert codes(found) == []
    assert sum("REVOKED" in result.checked.warning for result in found if result.checked is not None) == 1


def test_a_revoked_platform_is_told(published: Publishers, tmp_path: Path) -> None:
    url = f"{PCS}/sgx/certification/v4/pckcrl?ca=platform&encoding=der"
    published.change(url, content=intel.platform_ca().revoke(0x4001))
    (found,) = fetched(published, TDX, tmp_path)
    assert found.checked is not None
    assert found.checked.warning.startswith("REVOKED")


# --- evidence that nobody should be asked about -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(ITEMS))
def test_nobody_is_asked_about_a_forgery(published: Publishers, tmp_path: Path, kind: str) -> None:
    settings = wants.Settings(Policy(), AT, Services())  # the fakes' roots are not the vendors'
    with pytest.raises(RluError) as caught:
        wants.of_file(ITEMS[kind], settings)
    assert caught.value.code == f"{kind}.root.unknown"


def test_evidence_of_which_nothing_is_published() -> None:
    settings = wants.Settings(TRUST, AT, Services())
    assert wants.of_file(b'{"kind":"none"}', settings) == ()
    with pytest.raises(RluError) as caught:
        wants.of_file(b'{"kind":"unheard-of"}', settings)
    assert (caught.value.code, caught.value.exit_code) == ("collateral.kind", 20)
    with pytest.raises(RluError) as caught:
        wants.of_file(b"garbage", settings)
    assert caught.value.exit_code == 30


def test_a_vlek_is_not_amds_to_give() -> None:
    provider = amd.Chip(csp_id="provider")
    with pytest.raises(RluError) as caught:
        wants.of_file(provider.report(padded(ROOT)), wants.Settings(TRUST, AT, Services()))
    assert caught.value.code == "collateral.vlek"


# --- the network --------------------------------------------------------------------------------------------------------


def refusal(published: Publishers, url: str, **changes: Any) -> FetchError:
    with pytest.raises(FetchError) as caught:
        network(published, **changes).get(url, ("application/pkix-crl",))
    assert caught.value.exit_code == 3
    return caught.value


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("https://evil.example/list.crl", "fetch.host"),
        ("https://kdsintf.amd.com.evil.example/", "fetch.host"),
        ("https://xkdsintf.amd.com/", "fetch.host"),
        ("https://127.0.0.1/", "fetch.host"),
        ("ftp://kdsintf.amd.com/", "fetch.url"),
        ("file:///etc/passwd", "fetch.url"),
        ("https://user:secret@kdsintf.amd.com/", "fetch.url"),
        ("https://kdsintf.amd.com:99999/", "fetch.url"),
        ("https:///", "fetch.url"),
        (f"{KDS}/absent", "fetch.status"),
    ],
)
def test_where_nobody_is_asked(published: Publishers, url: str, code: str) -> None:
    assert refusal(published, url).code == code


def test_what_is_published_without_tls_is_asked_for_with_it(published: Publishers) -> None:
    answer = network(published).get("http://kdsintf.amd.com/vcek/v1/Milan/crl", ("application/pkix-crl",))
    assert answer.content == published.answers[SNP_LIST].content
    assert published.seen == [f"GET {SNP_LIST}"]


def test_a_server_that_is_another(published: Publishers) -> None:
    import ssl

    found = refusal(published, SNP_LIST, tls=ssl.create_default_context())
    assert found.code == "fetch.unreachable"
    assert "certificate is not trusted" in found.message


def test_redirects_are_not_followed(published: Publishers) -> None:
    published.change(SNP_LIST, status=302, headers={"Location": "https://kdsintf.amd.com/elsewhere"})
    assert refusal(published, SNP_LIST).code == "fetch.status"
    assert len(published.seen) == 1


def test_answers_are_bounded(published: Publishers) -> None:
    published.change(SNP_LIST, content=bytes(MAX_ANSWER + 1))
    assert refusal(published, SNP_LIST).code == "fetch.size"


def test_an_answer_that_is_cut(published: Publishers) -> None:
    published.change(SNP_LIST, length=10**5)
    assert refusal(published, SNP_LIST, timeout_s=0.3).code in ("fetch.unreachable", "fetch.timeout")


def test_a_busy_service_is_asked_again_and_not_for_ever(published: Publishers) -> None:
    pauses: list[float] = []
    published.change(SNP_LIST, status=429, headers={"Retry-After": "7"})
    assert refusal(published, SNP_LIST, sleep=pauses.append).code == "fetch.status"
    assert pauses == [7, 7, 7]
    published.change(SNP_LIST, headers={"Retry-After": "86400"})
    refusal(published, SNP_LIST, sleep=pauses.append)
    assert max(pauses) == 30


def test_nobody_answers(published: Publishers) -> None:
    assert refusal(published, SNP_LIST, proxy="127.0.0.1:1").code == "fetch.unreachable"


def test_the_responder_is_asked_by_sha384(published: Publishers, tmp_path: Path) -> None:
    from cryptography.x509 import ocsp as requests

    asked: list[bytes] = []
    good = published.respond
    published.respond = lambda content: (asked.append(content), good(content))[1]
    fetched(published, GPU, tmp_path)
    assert {requests.load_der_ocsp_request(content).hash_algorithm.name for content in asked} == {"sha384"}
    assert f"POST {OCSP}/" in published.seen
