"""Nitro Enclaves: through a real ioctl to a fake module, to items that verify in every step."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import aws
from fakes.collecting import BINDINGS, items
from fakes.nitro_steps import failures
from fakes.nsm import NsmDevice
from fakes.refusals import code_of
from rlu_attestation import x509
from rlu_attestation.evidence.nitro import Root
from rlu_server.attestor.collect import nsm
from rlu_server.attestor.collect.nitro import NitroCollector, attestation_request, parse_attestation
from rlu_server.attestor.collect.nsm import Nsm
from rlu_server.attestor.errors import AttestorError, HardwareRefused, HardwareUnavailable, NotReady


@pytest.fixture
def device() -> Iterator[NsmDevice]:
    with NsmDevice(aws.Module()) as mounted:
        yield mounted


@pytest.fixture
def roots() -> tuple[Root, ...]:
    return (Root.of(x509.parse(aws.root().der)),)


def collector(device: NsmDevice, directory: Path) -> NitroCollector:
    return NitroCollector(Nsm(device.path), directory)


def refused(device: NsmDevice, kind: type[AttestorError], code: str) -> str:
    with pytest.raises(kind) as caught:
        items(collector(device, Path("/nonexistent")))
    assert caught.value.code == code
    return caught.value.message


def test_items_verify(device: NsmDevice, roots: tuple[Root, ...], tmp_path: Path) -> None:
    for number, der in enumerate(aws.crls()):
        (tmp_path / f"{number}.crl").write_bytes(der)
    made = items(collector(device, tmp_path))
    assert len(device.requests) == 1
    for item, binding in zip(made, BINDINGS, strict=True):
        assert failures(item, binding, roots) == []
    assert failures(made[0], BINDINGS[1], roots) == ["nitro.binding.mismatch"]


def test_without_revocation_lists_the_item_says_nothing_of_revocation(
    device: NsmDevice, roots: tuple[Root, ...], tmp_path: Path
) -> None:
    for item in items(collector(device, tmp_path)):
        assert failures(item, BINDINGS[0], roots)[0] == "nitro.revocation.missing"


def test_the_request_has_the_root_and_nothing_else(device: NsmDevice, tmp_path: Path) -> None:
    collector(device, tmp_path).collect(bytes(range(32)))
    assert cbor2.loads(device.requests[0]) == {
        "Attestation": {"user_data": bytes(range(32)), "nonce": None, "public_key": None}
    }


def test_the_ioctl_is_the_drivers() -> None:
    assert nsm.IOCTL_RAW == 0xC0200A00


def test_no_device(tmp_path: Path) -> None:
    with pytest.raises(NotReady) as caught:
        Nsm(tmp_path / "nsm").request(attestation_request(bytes(32)))
    assert caught.value.code == "nsm.absent"
    assert str(tmp_path / "nsm") in caught.value.message


def test_what_is_no_module(tmp_path: Path) -> None:
    (tmp_path / "nsm").touch()
    with pytest.raises(HardwareRefused, match="no Nitro Secure Module"):
        Nsm(tmp_path / "nsm").request(attestation_request(bytes(32)))


@pytest.mark.parametrize(
    ("number", "kind", "code"),
    [
        (errno.EACCES, NotReady, "nsm.denied"),
        (errno.EBUSY, HardwareUnavailable, "nsm.busy"),
        (errno.ETIMEDOUT, HardwareUnavailable, "nsm.busy"),
        (errno.EIO, HardwareRefused, "nsm.failed"),
        (errno.EFAULT, HardwareRefused, "nsm.failed"),
    ],
)
def test_errors_of_the_driver(device: NsmDevice, number: int, kind: type[AttestorError], code: str) -> None:
    device.failures.append(number)
    assert str(device.path) in refused(device, kind, code)


def test_an_interrupted_call_is_made_again(device: NsmDevice, tmp_path: Path) -> None:
    device.failures.append(errno.EINTR)
    assert len(items(collector(device, tmp_path))) == 3


def test_interrupted_for_good(device: NsmDevice) -> None:
    device.failures += [errno.EINTR] * nsm.INTERRUPTIONS
    refused(device, HardwareUnavailable, "nsm.busy")


def test_an_answer_of_nothing(device: NsmDevice) -> None:
    device.answer = lambda request: b""
    refused(device, HardwareRefused, "nsm.failed")


def test_an_answer_that_the_driver_cut(device: NsmDevice) -> None:
    device.answer = lambda request: cbor2.dumps({"Attestation": {"document": bytes(0x4000)}})
    refused(device, HardwareRefused, "nsm.answer")


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({"Error": "InvalidArgument"}, "nsm.refused"),
        ({"Attestation": {"document": "text"}}, "nsm.answer"),
        ({"Attestation": {}}, "nsm.answer"),
        ({"Random": b""}, "nsm.answer"),
        ({"Attestation": {"document": b"rubbish"}}, "nsm.answer"),
        (["Attestation"], "nsm.answer"),
    ],
    ids=str,
)
def test_answers_of_another_form(device: NsmDevice, answer: object, code: str) -> None:
    device.answer = lambda request: cbor2.dumps(answer)
    refused(device, HardwareRefused, code)


def test_a_document_over_other_data(device: NsmDevice) -> None:
    document = device.module.document(device.module.fields(bytes(32)))
    device.answer = lambda request: cbor2.dumps({"Attestation": {"document": document}})
    assert "other data" in refused(device, HardwareRefused, "nsm.answer")


def test_a_document_of_a_nitrotpm() -> None:
    with NsmDevice(aws.Module("nitrotpm")) as device:
        refused(device, HardwareRefused, "nsm.answer")


@pytest.mark.parametrize("size", [0, nsm.MAX_REQUEST + 1])
def test_a_request_of_another_size_is_misuse(size: int) -> None:
    with pytest.raises(ValueError, match="request"):
        Nsm().request(bytes(size))


@settings(max_examples=60)
@given(st.binary(max_size=200))
def test_arbitrary_answers_refuse_in_our_words(answer: bytes) -> None:
    assert code_of(lambda: parse_attestation(answer)) in ("nsm.answer", "nsm.refused")
