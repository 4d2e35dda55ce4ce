"""`rlu verify` on evidence as the hardware gives it, made by fake vendors: what endorses it is recognised by content."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from fakes import amd, aws, google, intel, nvidia
from fakes.deployment import Deployment
from fakes.machine import registrar, vendor_root
from fakes.pki import AT
from fakes.tee import Tee
from fakes.terminal import Ran, rlu
from rlu_attestation import bundle as bundles
from rlu_attestation.assemble import FORMS, read_piece
from rlu_attestation.errors import Malformed, Unsupported
from rlu_attestation.verifier.alone import KINDS

DATA = bytes(range(64))
POLICY = """
version = 1
pcrs = "any"
gpu = "any"
[measurements]
nitro = "any"
nitrotpm = "any"
sev-snp = "any"
tdx = "any"
[tcb]
sev-snp = "any"
tdx = "any"
[accept]
debug_states = ["disabled"]
"""
Capture = pytest.CaptureFixture[str]


def pem(der: bytes, label: str = "CERTIFICATE") -> bytes:
    return (
        f"-----BEGIN {label}-----\n".encode() + base64.encodebytes(der) + f"-----END {label}-----\n".encode()
    )


def snp() -> tuple[bytes, dict[str, bytes]]:
    parts = amd.parts(amd.Chip(), DATA)
    assert parts.crl is not None
    return parts.report, {
        "vcek.der": parts.vek,
        "chain.pem": pem(parts.ask) + pem(parts.ark),
        "crl.pem": pem(parts.crl, "X509 CRL"),
    }


def tdx() -> tuple[bytes, dict[str, bytes]]:
    parts = intel.parts(intel.Platform(), DATA)
    return parts.quote.data + bytes(100), {"collateral.json": parts.pccs()}


def nitro(kind: str) -> tuple[bytes, dict[str, bytes]]:
    parts = aws.parts(aws.Module(kind), DATA)
    return parts.document, {f"{number}.crl": der for number, der in enumerate(aws.crls())}


def gpu() -> tuple[bytes, dict[str, bytes]]:
    parts = nvidia.Node((nvidia.Device("GH100", "gpu 0"),)).parts(DATA[:32])
    device = parts.gpus[0]
    files = {"chain.pem": b"".join(map(pem, reversed(device.chain)))}
    files |= {f"rim{number}.xml": rim for number, rim in enumerate(parts.rims)}
    return device.report, files | {f"{number}.ocsp": answer for number, answer in enumerate(parts.ocsp)}


BARE = {
    "sev-snp": snp,
    "tdx": tdx,
    "nitro": lambda: nitro("nitro"),
    "nitrotpm": lambda: nitro("nitrotpm"),
    "nvidia": gpu,
}
ROOTS = {
    "sev-snp.der": amd.ark("Milan").der,
    "tdx.der": intel.root().der,
    "nitro.der": aws.root().der,
    "nitrotpm.der": aws.root().der,
    "nvidia.pem": pem(nvidia.device_root().der),
    "nvidia-rim.pem": pem(nvidia.rim_root().der),
}


class Room:
    """A directory with bare evidence, what endorses it, and a policy that accepts it."""

    def __init__(self, kind: str, directory: Path, capsys: Capture) -> None:
        self.kind, self.directory, self.capsys = kind, directory, capsys
        data, self.beside = BARE[kind]()
        self.file = self.write("evidence.bin", data)
        self.policy = self.write("policy.toml", POLICY.encode())
        (directory / "roots").mkdir()
        for name, der in ROOTS.items():
            self.write(f"roots/{name}", der)

    def write(self, name: str, data: bytes) -> Path:
        path = self.directory / name
        path.write_bytes(data)
        return path

    def verify(self, *options: object, kind: bool = True, data: str | None = "", without: str = "") -> Ran:
        named = ("--kind", self.kind) if kind else ()
        expected = DATA[:32] if self.kind == "nvidia" else DATA
        about = () if data is None else ("--report-data", data or expected.hex())
        beside = [
            argument
            for name, content in self.beside.items()
            if not without or not name.startswith(without)
            for argument in ("--with", self.write(name, content))
        ]
        common = (
            "--policy",
            self.policy,
            "--roots",
            self.directory / "roots",
            "--as-of",
            int(AT.timestamp()),
        )
        return rlu(self.capsys, "verify", self.file, *named, *about, *beside, *common, *options)


@pytest.fixture(params=BARE)
def room(request: pytest.FixtureRequest, tmp_path: Path, capsys: Capture) -> Room:
    return Room(request.param, tmp_path, capsys)


def failures(ran: Ran) -> list[str]:
    return [
        step["code"]
        for step in ran.json["steps"]
        if step["outcome"] == "failed" and not step["code"].endswith("not_checked")
    ]


def test_genuine_evidence_verifies(room: Room) -> None:
    ran = room.verify("--json")
    assert (ran.code, failures(ran)) == (0, [])
    assert (ran.json["kind"], ran.json["kind_assumed"]) == (room.kind, False)
    assert ran.json["freshness"] == "verifier"
    assert "unused" not in ran.json


def test_the_kind_is_recognised_and_said(room: Room) -> None:
    ran = room.verify(kind=False)
    assert ran.code == 0
    assert f"Taken for evidence of kind {room.kind}" in ran.out
    assert room.verify("--json", kind=False).json["kind_assumed"] is True


def test_without_what_it_should_be_about_the_binding_fails(room: Room) -> None:
    ran = room.verify("--json", data=None)
    assert (ran.code, failures(ran)) == (10, [f"{room.kind}.binding.unknown"])
    room.policy.write_text(POLICY + f'[[waive]]\nstep = "{room.kind}.binding"\nreason = "published"\n')
    assert room.verify(data=None).code == 11
    assert f"rlu explain {room.kind}.binding" not in room.verify(data=None).out


def test_about_something_else(room: Room) -> None:
    other = bytes(32 if room.kind == "nvidia" else 64).hex()
    ran = room.verify("--json", data=other)
    assert (ran.code, failures(ran)) == (10, [f"{room.kind}.binding.mismatch"])


def test_without_the_operators_roots(room: Room) -> None:
    for file in (room.directory / "roots").iterdir():
        file.unlink()
    room.write("roots/gcp-vtpm.der", ROOTS["nitro.der"])
    assert f"{room.kind}.root.unknown" in failures(room.verify("--json"))


@pytest.mark.parametrize(
    ("kind", "without", "code", "named"),
    [
        ("sev-snp", "vcek", 2, "assemble.missing"),
        ("sev-snp", "chain", 2, "assemble.missing"),
        ("sev-snp", "crl", 10, "sev-snp.revocation.missing"),
        ("tdx", "collateral", 10, "tdx.tcb_info.missing"),
        ("nitro", "0", 10, "nitro.revocation.missing"),
        ("nvidia", "chain", 2, "assemble.missing"),
        ("nvidia", "rim0", 10, "nvidia.rim_driver.missing"),
        ("nvidia", "0", 10, "nvidia.revocation.missing"),
    ],
)
def test_without_a_piece(
    kind: str, without: str, code: int, named: str, tmp_path: Path, capsys: Capture
) -> None:
    ran = Room(kind, tmp_path, capsys).verify("--json", without=without)
    assert ran.code == code
    assert named in (ran.json.get("code"), *(failures(ran) if code == 10 else ()))


ANY_GPU = 'names = "any"\ndrivers = "any"\nvbios = "any"\nmodes = "any"\n'


@pytest.mark.parametrize(
    ("rule", "failed"),
    [
        ("", ["policy.gpu.unset"]),
        ("[gpu]\ncount = 2\n" + ANY_GPU, ["policy.gpu.mismatch"]),
        ("[gpu]\n" + ANY_GPU.replace('drivers = "any"', 'drivers = ["1.0"]'), ["policy.gpu.mismatch"]),
        ("[gpu]\n" + ANY_GPU.replace('vbios = "any"', 'vbios = ["00"]'), ["policy.gpu.mismatch"]),
        # What a report alone does not tell is refused, not passed over.
        ("[gpu]\n" + ANY_GPU.replace('names = "any"', 'names = ["NVIDIA H200"]'), ["policy.gpu.mismatch"]),
        ("[gpu]\n" + ANY_GPU.replace('modes = "any"', 'modes = ["on"]'), ["policy.gpu.mismatch"]),
        ("[gpu]\nmemory_mib = 1\n" + ANY_GPU, ["policy.gpu.mismatch"]),
        ("[gpu]\ncount = 1\n" + ANY_GPU, []),
    ],
)
def test_gpus_alone_are_held_against_the_policy(
    rule: str, failed: list[str], tmp_path: Path, capsys: Capture
) -> None:
    room = Room("nvidia", tmp_path, capsys)
    room.policy.write_text("version = 1\n" + rule)
    ran = room.verify("--json")
    assert (ran.code, failures(ran)) == (10 if failed else 0, failed)


def test_what_has_no_place_is_said(tmp_path: Path, capsys: Capture) -> None:
    room = Room("tdx", tmp_path, capsys)
    room.beside["more.der"] = amd.ark("Milan").der
    room.beside["rim.xml"] = nvidia.rim(nvidia.Device("GH100", "gpu 0"), True).xml()
    ran = room.verify()
    assert ran.code == 0
    assert (
        "Not used, because evidence of kind tdx has no place for it: 1 certificate, 1 × nvidia-rim."
        in ran.out
    )


def test_another_kind_than_named(room: Room) -> None:
    others = {"nitro": "nitrotpm", "nitrotpm": "nitro"}
    ran = room.verify("--json", "--kind", others.get(room.kind, "tdx" if room.kind != "tdx" else "nitro"))
    assert ran.code in (20, 30)


def test_items_of_rlu_are_taken_too(tmp_path: Path, capsys: Capture) -> None:
    room = Room("sev-snp", tmp_path, capsys)
    room.file.write_bytes(amd.parts(amd.Chip(), DATA).item())
    room.beside = {}
    assert room.verify(kind=False).code == 0
    assert room.verify("--kind", "tdx", kind=False).code == 30


def test_collateral_beside_a_bundle(tmp_path: Path, capsys: Capture) -> None:
    bundle = tmp_path / "bundle.rlu"
    bundle.write_bytes(Deployment().bundle().encode())
    more, crl = tmp_path / "more.pem", tmp_path / "crl.der"
    more.write_bytes(pem(aws.root().der))
    crl.write_bytes(aws.crls()[0])
    rim = tmp_path / "rim.xml"
    rim.write_bytes(nvidia.rim(nvidia.Device("GH100", "gpu 0"), True).xml())
    ran = rlu(
        capsys,
        "verify",
        bundle,
        "--with",
        more,
        "--with",
        crl,
        "--with",
        rim,
        "--save",
        tmp_path / "saved.rlu",
    )
    assert "Not used, because a bundle has no place for it: 1 certificate, 1 × nvidia-rim." in ran.out
    saved = bundles.parse((tmp_path / "saved.rlu").read_bytes())
    assert [(piece.kind, piece.data) for piece in saved.collateral] == [
        ("x509-crl", crl.read_bytes()),
        ("nvidia-rim", rim.read_bytes()),
    ]


@pytest.mark.parametrize("name", ["tpm2", "gcp-vtpm", "azure-vtpm on sev-snp", "azure-vtpm on tdx"])
def test_items_of_virtual_and_real_tpms(name: str, tmp_path: Path, capsys: Capture) -> None:
    kind = name.partition(" ")[0]
    bundle = Deployment().bundle() if kind == "tpm2" else Tee(name).bundle()
    room = Room("sev-snp", tmp_path, capsys)
    room.kind, room.beside = kind, {}
    room.file.write_bytes(next(item.data for item in bundle.evidence if item.kind == kind))
    for file, der in {"tpm": vendor_root(), "registrar": registrar(), "gcp-vtpm": google.root()}.items():
        room.write(f"roots/{file}.der", der.der)
    room.policy.write_text(POLICY + '[tee]\naccept = ["lower-vmpl"]\n')
    ran = room.verify("--json", data=None, kind=False)
    assert ran.json["kind"] == kind
    missing = ["azure-vtpm.paravisor.unset"] if kind == "azure-vtpm" else []
    assert failures(ran) == ["quote.binding.unknown", *missing] or failures(ran) == [
        *missing,
        "quote.binding.unknown",
    ]
    assert room.verify(data=None).out.startswith("REJECTED")


def test_kinds_that_are_none(tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "report.bin"
    file.write_bytes(b"\x05" * 100)
    assert "[verify.unknown]" in (ran := rlu(capsys, "verify", file)).err
    assert ran.code == 20
    assert "rlu inspect" in ran.err
    assert "[verify.kind]" in (ran := rlu(capsys, "verify", file, "--kind", "sgx")).err
    assert ran.code == 20
    assert "[assemble.form]" in (ran := rlu(capsys, "verify", file, "--kind", "tpm2")).err
    assert ran.code == 20


def test_options_that_are_not_for_bare_evidence(tmp_path: Path, capsys: Capture) -> None:
    room = Room("nitro", tmp_path, capsys)
    for options in (
        ("--nonce", "A" * 43),
        ("--bundled-policy", "00" * 32),
        ("--save", tmp_path / "b"),
        ("--probe", "x"),
        ("--report-data", "0"),
        ("--report-data", "00" * 65),
    ):
        assert room.verify(*options).code == 2, options
    bundle = tmp_path / "bundle.rlu"
    bundle.write_bytes(Deployment().bundle().encode())
    assert rlu(capsys, "verify", bundle, "--report-data", "00").code == 2
    assert rlu(capsys, "verify", "https://localhost:1", "--kind", "tdx").code == 2


def test_every_kind_that_is_verified_alone_has_its_form() -> None:
    assert set(FORMS) == set(KINDS)


@pytest.mark.parametrize(
    ("name", "data", "kind", "code"),
    [
        ("nothing", b"", Unsupported, "assemble.piece"),
        ("text", b"hello", Unsupported, "assemble.piece"),
        ("private-key", pem(b"0", "PRIVATE KEY"), Unsupported, "assemble.piece"),
        ("cut-pem", pem(b"0")[:-10], Malformed, "x509.encoding"),
        ("no-base64", pem(b"0").replace(b"MA==", b"????"), Malformed, "x509.encoding"),
        ("cut-certificate", aws.root().der[:-1], Malformed, "x509.encoding"),
        ("other-json", b"{}", Unsupported, "assemble.piece"),
        ("no-json", b"{", Unsupported, "assemble.piece"),
        ("too-large", bytes(8 * 1024 * 1024 + 1), Malformed, "assemble.piece"),
    ],
)
def test_pieces_that_are_none(name: str, data: bytes, kind: type[Exception], code: str) -> None:
    with pytest.raises(kind) as refused:
        read_piece(data)
    assert getattr(refused.value, "code", "") == code, name
