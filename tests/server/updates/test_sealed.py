"""Updates of encrypted models: verified as they are, without a key, before anything is switched to them; refused, they change nothing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from fakes import model_vendor, model_vendor_sealed
from rlu_attestation.errors import RluError, Untrusted
from rlu_server.broker.errors import SealBroken
from rlu_server.broker.sealed_files import is_sealed, read_header, unseal
from rlu_server.broker.sealed_signature import SEALED_SIGNATURE
from rlu_server.models import measure
from rlu_server.models.errors import SignatureRefused
from rlu_server.settings import Settings
from rlu_server.updates.errors import UpdateRefused
from rlu_server.updates.job import Outcome
from rlu_server.updates.sources.source import Absent


@pytest.fixture
def vendor(site: Any) -> Vendor:
    made = Vendor(site)
    made.with_broker("https://keys.vendor.example")
    return made


class Vendor:
    """Who offers a site encrypted models."""

    def __init__(self, site: Any) -> None:
        self.site = site

    def with_broker(self, address: str) -> None:
        document = self.site.settings.model_dump()
        document["weights"]["broker"] = address
        self.site.settings = Settings.model_validate(document)

    def offer(self, number: int | None, weights: bytes = b"weights") -> Path:
        place = model_vendor_sealed.offer(self.site.home / "vendor", number, weights)
        self.site.configure(source=str(place))
        return place

    def refused(self, kind: type[RluError], code: str) -> None:
        current = self.site.store.current()
        with pytest.raises(kind) as caught:
            self.site.job().update()
        assert caught.value.code == code
        assert self.site.store.current() == current
        assert self.site.store.state().attempt.code == code


def test_fetched_verified_switched_and_back(vendor: Vendor, tmp_path: Path) -> None:
    site = vendor.site
    offered = vendor.offer(1)
    first = site.job().update()
    assert first.result == "applied"
    assert first.version.startswith("000001-")
    current = site.home / "store" / "current"
    assert is_sealed(current)
    (tmp_path / "opened").mkdir()
    assert unseal(current, tmp_path / "opened", bytes(32)) == read_header(offered).manifest
    assert site.job().update() == Outcome("current", first.version)
    vendor.offer(2, b"others")
    second = site.job().update()
    assert site.store.current() == second.version
    assert site.job().rollback(None) == Outcome("rolled_back", first.version)
    assert site.job().apply(second.version) == Outcome("applied", second.version)


def test_later_and_earlier_are_told_without_a_key(vendor: Vendor) -> None:
    vendor.offer(2)
    vendor.site.job().update()
    vendor.offer(1, b"older")
    vendor.refused(UpdateRefused, "update.downgrade")
    vendor.offer(None, b"unnumbered")
    vendor.refused(UpdateRefused, "update.no_release")


def _altered(place: Path) -> None:
    file = place / "model.safetensors.sealed"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def _another_header(place: Path) -> None:
    (place / "rlu-weights.json").write_bytes(read_header(place).encode() + b"\n")


def _another_signature(place: Path) -> None:
    """A genuine one, of another release."""
    (place / "model.sig").write_bytes(b"{}")


@pytest.mark.parametrize("change", [_altered, _another_header, _another_signature])
def test_what_was_altered_on_the_way_is_not_taken(vendor: Vendor, change: Any) -> None:
    vendor.offer(1)
    vendor.site.job().update()
    change(vendor.offer(2, b"others"))
    vendor.refused(UpdateRefused, "update.tampered")


def test_signed_by_nobody_known(vendor: Vendor) -> None:
    vendor.offer(1)
    vendor.site.job().update()
    model_vendor_sealed.sign(vendor.offer(2, b"others"), ec.generate_private_key(ec.SECP256R1()))
    vendor.refused(Untrusted, "model.signature.unknown_signer")


def test_a_model_that_was_not_signed_as_it_is_encrypted(vendor: Vendor) -> None:
    (vendor.offer(1) / SEALED_SIGNATURE).unlink()
    vendor.refused(Absent, "update.absent")


def test_a_header_of_another_model_than_the_plain_signature(vendor: Vendor) -> None:
    """The vendor's own mistake: nobody else could sign that."""
    place = vendor.offer(1)
    other = model_vendor.make(vendor.site.home / "other", 1, b"not these")
    shutil.copyfile(other / "model.sig", place / "model.sig")
    model_vendor_sealed.sign(place)
    vendor.refused(SignatureRefused, "model.signature.mismatch")


@pytest.mark.parametrize("more", [True, False])
def test_more_or_fewer_files_than_the_header_names(vendor: Vendor, more: bool) -> None:
    place = vendor.offer(1)
    if more:
        (place / "script.py").write_text("print()")
    else:
        (place / "config.json.sealed").unlink()
    model_vendor_sealed.sign(place)
    vendor.refused(SealBroken, "weights.missing")


def test_altered_here_it_is_not_switched_to(vendor: Vendor) -> None:
    vendor.offer(1)
    fetched = vendor.site.job().fetch()
    file = vendor.site.store.directory(fetched.version) / "model.safetensors.sealed"
    file.chmod(0o644)
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(SignatureRefused) as caught:
        vendor.site.job().apply(fetched.version)
    assert caught.value.code == "model.signature.mismatch"
    assert vendor.site.store.current() is None
    # Fetched once more, since it waits and is not good.
    assert vendor.site.job().update() == Outcome("applied", fetched.version)


def test_with_a_broker_plain_models_come_too_and_without_one_no_encrypted_ones(vendor: Vendor) -> None:
    site = vendor.site
    plain = site.offer(1)
    assert site.job().update().result == "applied"
    assert site.served() == measure(plain).sha256
    vendor.offer(2, b"others")
    vendor.with_broker("")
    vendor.refused(Absent, "update.absent")
