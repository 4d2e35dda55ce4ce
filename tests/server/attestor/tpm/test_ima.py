"""The kernel's list beside quotes of a software TPM: cut to what each quote covers, and refused where it covers nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tpm2_pytss import ESYS_TR, TPM2_ALG, TPML_DIGEST_VALUES, TPMT_HA, TPMU_HA

from fakes import google
from fakes.asn1 import PublicKey
from fakes.collecting import BINDINGS, items
from fakes.gcp_vtpm_steps import failures, roots
from fakes.ima import Entry, FakeIma
from fakes.tpm import FakeTpm
from fakes.vtpm import provision_google
from rlu_attestation.evidence import gcp_vtpm
from rlu_attestation.tpm import checks
from rlu_attestation.tpm.ima import ImaReplay
from rlu_server.attestor import keeping
from rlu_server.attestor.collect.gcp_vtpm import GcpKey
from rlu_server.attestor.errors import AttestorError, HardwareRefused, NotReady
from rlu_server.attestor.tpm import ima, platform
from rlu_server.attestor.tpm.platform import TpmConfiguration, TpmPlatform
from rlu_server.settings import Settings
from rlu_server.swtpm import SoftwareTpm

pytestmark = pytest.mark.tpm
PCRS = (*range(10), ima.PCR, 14)


def extend(opened: TpmPlatform, pcr: int, value: bytes) -> None:
    digests = TPML_DIGEST_VALUES([TPMT_HA(hashAlg=TPM2_ALG.SHA256, digest=TPMU_HA(sha256=value))])
    opened._shared.ready().tpm.esapi.pcr_extend(ESYS_TR(pcr), digests)


@dataclass
class Kernel:
    """A kernel on a software TPM: what it measures goes to the list, and into PCR 10."""

    path: Path
    opened: TpmPlatform
    padded: bool = False
    ima: FakeIma = field(init=False)

    def __post_init__(self) -> None:
        self.ima = FakeIma(FakeTpm("boot", banks=("sha256",)), padded=self.padded)
        self._extend(self.ima.entries[0])
        for name in ("/sbin/init", "/usr/bin/rlu"):
            self.measures(name)

    def measures(self, name: str) -> None:
        self._extend(self.ima.measure(name, name.encode()))

    def _extend(self, entry: Entry) -> None:
        self.path.write_bytes(self.ima.binary())
        extended = entry.digest("sha1" if self.padded else "sha256").ljust(32, b"\0")
        extend(self.opened, ima.PCR, extended)


@contextmanager
def attesting(tpm: SoftwareTpm, directory: Path, pcrs: tuple[int, ...] = PCRS) -> Iterator[TpmPlatform]:
    """A platform whose AK Google certified: every verification step can be run on its items."""
    collateral = directory / "collateral"
    if not collateral.exists():
        collateral.mkdir()
        (collateral / "intermediate.crt").write_bytes(google.intermediate().der)
        (collateral / "root.crt").write_bytes(google.root().der)
        (collateral / "root.crl").write_bytes(google.root().revoke(0x666))

        def certify(key: PublicKey) -> bytes:
            return google.Instance().certificate(key=key)

        provision_google(tpm.tcti, certify)
    configuration = TpmConfiguration(tpm.tcti, directory / "key.pem", pcrs, ima_log=directory / "list")
    with closing(TpmPlatform(configuration, b"s" * 32, GcpKey(collateral))) as opened:
        yield opened


@pytest.fixture
def opened(software_tpm: SoftwareTpm, tmp_path: Path) -> Iterator[TpmPlatform]:
    with attesting(software_tpm, tmp_path) as found:
        yield found


@pytest.fixture
def kernel(opened: TpmPlatform, tmp_path: Path) -> Kernel:
    return Kernel(tmp_path / "list", opened)


def replayed(item: bytes) -> ImaReplay:
    found = checks.verify_quote_ima(gcp_vtpm.parse(item))
    assert found is not None
    return found


def refused(opened: TpmPlatform, kind: type[AttestorError], code: str) -> str:
    with pytest.raises(kind) as caught:
        opened.collect(bytes(32))
    assert caught.value.code == code
    return caught.value.message


def between(monkeypatch: pytest.MonkeyPatch, before: Callable[[], None], after: Callable[[], None]) -> None:
    """Let things happen right before and right after the TPM makes a quote."""
    quote = platform._quote

    def surrounded(*given: object) -> tuple[bytes, bytes]:
        before()
        made = quote(*given)  # type: ignore[arg-type]
        after()
        return made

    monkeypatch.setattr(platform, "_quote", surrounded)


def nothing() -> None: ...


def test_items_verify_with_the_list(opened: TpmPlatform, kernel: Kernel) -> None:
    made = items(opened)
    for item, binding in zip(made, BINDINGS, strict=True):
        assert failures(item, binding, roots()) == []
    found = replayed(made[0])
    assert [entry.name for entry in found.log.entries] == ["boot_aggregate", "/sbin/init", "/usr/bin/rlu"]
    assert (found.later, found.banks, found.boot_aggregate) == (0, {"sha256": "own"}, "sha256:0-9")
    opened.sign(bytes(32))


def test_a_kernel_that_extends_sha1_and_zeros(opened: TpmPlatform, tmp_path: Path) -> None:
    Kernel(tmp_path / "list", opened, padded=True)
    (item, *_) = items(opened)
    assert failures(item, BINDINGS[0], roots()) == []
    assert replayed(item).banks == {"sha256": "sha1"}


def test_the_key_outlives_what_is_measured(software_tpm: SoftwareTpm, tmp_path: Path) -> None:
    """PCR 10 is quoted and the key is not bound to it, neither while it runs nor at the next start."""
    with attesting(software_tpm, tmp_path) as opened:
        key, kernel = opened.public_key, Kernel(tmp_path / "list", opened)
        for number in range(3):
            kernel.measures(f"/usr/bin/tool-{number}")
            opened.sign(bytes(32))
            (item, *_) = items(opened)
            assert failures(item, BINDINGS[0], roots()) == []
            assert replayed(item).covered == 4 + number
    with attesting(software_tpm, tmp_path) as again:
        assert again.public_key == key
        again.sign(bytes(32))


def test_what_is_measured_around_the_quote(
    opened: TpmPlatform, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between reading the PCRs, quoting them and reading the list: what came before the quote is in, what came after is cut."""
    between(monkeypatch, lambda: kernel.measures("/before"), lambda: kernel.measures("/after"))
    (item, *_) = items(opened)
    assert failures(item, BINDINGS[0], roots()) == []
    found = replayed(item)
    assert (found.log.entries[-1].name, found.later) == ("/before", 0)
    assert kernel.ima.entries[-1].words[-1] == "/after"


def test_an_entry_that_was_never_extended_is_cut(opened: TpmPlatform, kernel: Kernel) -> None:
    whole = kernel.path.read_bytes()
    kernel.ima.measure("/never", b"never")
    kernel.path.write_bytes(kernel.ima.binary())
    (item, *_) = items(opened)
    assert failures(item, BINDINGS[0], roots()) == []
    assert kernel.path.read_bytes()[: len(whole)] == whole
    assert replayed(item).log.entries[-1].name == "/usr/bin/rlu"


def test_another_pcr_that_changes_meanwhile(
    opened: TpmPlatform, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked again, on a new connection, where the key that is bound to that PCR turns out to be of no use."""
    between(monkeypatch, nothing, lambda: extend(opened, 14, b"\1" * 32))
    refused(opened, HardwareRefused, "key.platform_state")


def forged(kernel: Kernel) -> bytes:
    """One file of the list is another."""
    other = FakeIma(FakeTpm("boot", banks=("sha256",)))
    other.measure("/sbin/init", b"another")
    other.measure("/usr/bin/rlu", b"/usr/bin/rlu")
    return other.binary()


LISTS: dict[str, tuple[Callable[[Kernel], bytes], str]] = {
    "forged": (forged, "ima.mismatch"),
    "first entry missing": (
        lambda kernel: b"".join(entry.binary() for entry in kernel.ima.entries[1:]),
        "ima.mismatch",
    ),
    "last entry missing": (
        lambda kernel: b"".join(entry.binary() for entry in kernel.ima.entries[:-1]),
        "ima.mismatch",
    ),
    "cut within an entry": (lambda kernel: kernel.ima.binary()[:-1], "ima.form"),
    "another PCR": (lambda kernel: kernel.ima.binary().replace(b"\x0a\0\0\0", b"\x0b\0\0\0"), "ima.form"),
    "empty": (lambda kernel: b"", "ima.form"),
}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_that_does_not_lead_to_the_quote(opened: TpmPlatform, kernel: Kernel, name: str) -> None:
    change, code = LISTS[name]
    kernel.path.write_bytes(change(kernel))
    assert "[attestation] pcrs" in refused(opened, HardwareRefused, code)


def test_a_list_that_cannot_be_read(opened: TpmPlatform, kernel: Kernel) -> None:
    kernel.path.unlink()
    assert str(kernel.path) in refused(opened, NotReady, "ima.list")


def test_a_list_that_is_too_long(
    opened: TpmPlatform, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ima, "MAX_LIST", kernel.path.stat().st_size)
    assert failures(items(opened)[0], BINDINGS[0], roots()) == []
    kernel.measures("/one/more")
    refused(opened, NotReady, "ima.size")


def test_the_longest_list_fits_into_an_item(opened: TpmPlatform, kernel: Kernel) -> None:
    entries = [entry.binary() for entry in kernel.ima.entries]
    filler = kernel.ima.measure("/usr/lib/" + "x" * 4000, b"long")
    while sum(map(len, entries)) + len(filler.binary()) <= ima.MAX_LIST:
        entries.append(filler.binary())
        extend(opened, ima.PCR, filler.digest("sha256"))
    kernel.path.write_bytes(b"".join(entries))
    (item, *_) = items(opened)
    assert failures(item, BINDINGS[0], roots()) == []
    assert replayed(item).covered == len(entries)


def test_a_list_that_may_not_be_looked_up_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Denied(type(tmp_path)):  # type: ignore[misc]  # root passes every directory
        def stat(self, *, follow_symlinks: bool = True) -> None:
            raise PermissionError

    monkeypatch.setattr(ima, "LIST", Denied(tmp_path / "list"))
    assert ima.present() is ima.LIST


@pytest.mark.parametrize(
    ("changes", "there", "taken"),
    [
        ({"pcrs": [0, 7, 10]}, True, True),
        ({"pcrs": [0, 7, 10]}, False, False),
        ({"pcrs": [0, 7]}, True, False),
        ({"pcrs": [0, 7, 10], "tcti": "swtpm:path=/nowhere"}, True, False),
    ],
    ids=["quoted", "no-ima", "not-quoted", "emulator"],
)
def test_the_list_is_taken_where_pcr_10_is_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], there: bool, taken: bool
) -> None:
    monkeypatch.setattr(ima, "LIST", tmp_path / "list")
    if there:
        (tmp_path / "list").write_bytes(b"")
    found = keeping.tpm_configuration(
        Settings.model_validate({"state_dir": tmp_path, "attestation": changes})
    )
    assert found.ima_log == (tmp_path / "list" if taken else None)
    assert found.bound == tuple(pcr for pcr in found.pcrs if not (taken and pcr == 10))
