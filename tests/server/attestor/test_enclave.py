"""A key born in a TEE: from the fake device to a statement whose evidence speaks for it."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from fakes import amd, aws, nvidia
from fakes.attestor_process import GatewaySide
from fakes.attestor_room import running_room
from fakes.collecting import items
from fakes.configfs_tsm import ConfigfsTsm, snp
from fakes.intel import pem
from fakes.nitro_steps import failures as nitro_failures
from fakes.nsm import NsmDevice
from fakes.nvidia_steps import failures as nvidia_failures
from fakes.nvidia_steps import roots as nvidia_roots
from fakes.nvml import FakeDriver, FakeGpu
from fakes.sev_snp_steps import failures
from rlu_attestation import jose, x509
from rlu_attestation.evidence.nitro import Root as NitroRoot
from rlu_attestation.evidence.sev_snp import ProductLine, Root
from rlu_attestation.gpus import Gpus
from rlu_attestation.instance import InstanceClaims, binding, claims_bytes
from rlu_server.attestor import messages
from rlu_server.attestor.collect.collector import Collector
from rlu_server.attestor.collect.nitro import NitroCollector
from rlu_server.attestor.collect.nsm import Nsm
from rlu_server.attestor.collect.nvidia import NvidiaCollector
from rlu_server.attestor.collect.sev_snp import SevSnpCollector
from rlu_server.attestor.collect.tsm import TsmReports
from rlu_server.attestor.enclave import EnclavePlatform
from rlu_server.attestor.errors import NotReady
from rlu_server.attestor.platform import Evidence

GPUS = Gpus(
    count=2,
    name="NVIDIA H100",
    memory_mib=81559,
    driver="550.54.15",
    vbios="96.00.74.00.1A",
    attestation="nvidia",
    mode="on",
)


async def attest(
    directory: Path, *, platform: EnclavePlatform, **options: object
) -> tuple[InstanceClaims, bytes, dict[str, bytes]]:
    """A fresh statement of a whole attestor: its claims, what its evidence has to bind, and the evidence."""
    async with running_room(directory, platform=platform, **options) as room:
        gateway = await room.greeted()
        made = await gateway.ask(messages.Attest(id=9, nonce=b"a verifier's own"), messages.Attestation)
    parsed = jose.jws_parse(made.statement)
    jose.verify_es256(platform.public_key, parsed.signing_input, parsed.signature)
    claims = InstanceClaims.parse(parsed.payload)
    evidence = {item.kind: item.data for item in made.evidence}
    assert claims.evidence == {kind: hashlib.sha256(item).digest() for kind, item in evidence.items()}
    return claims, binding(claims_bytes(claims.to_json())), evidence


async def test_sev_snp_speaks_for_the_key(tmp_path: Path) -> None:
    chip = amd.Chip()
    given = tmp_path / "collateral"
    given.mkdir()
    (given / "ark.crl").write_bytes(amd.ark("Milan").revoke())
    ark = x509.parse(amd.ark("Milan").der)
    with ConfigfsTsm(snp(chip)) as configfs:
        platform = EnclavePlatform(SevSnpCollector(TsmReports(configfs.path), given), tmp_path / "starts")
        claims, bound, evidence = await attest(tmp_path, platform=platform)
    assert (claims.key_hardware, claims.oemboot, claims.gpus) == ("sev-snp", False, None)
    assert failures(evidence["sev-snp"], bound, (Root.of(ark, ProductLine.MILAN),)) == []


async def test_nitro_and_gpus_speak_side_by_side(tmp_path: Path) -> None:
    given = tmp_path / "collateral"
    given.mkdir()
    for number, der in enumerate(aws.crls()):
        (given / f"{number}.crl").write_bytes(der)
    node = nvidia.Node((nvidia.Device(label="gpu 0"), nvidia.Device(label="gpu 1")))
    parts = node.parts(bytes(32))
    for number, der in enumerate(parts.ocsp):
        (given / f"{number}.ocsp").write_bytes(der)
    for number, rim in enumerate(parts.rims):
        (given / f"{number}.xml").write_bytes(rim)
    driver = FakeDriver(
        tmp_path / "driver", [FakeGpu(report=d.report, chain=pem(*d.chain())) for d in node.gpus]
    )
    with NsmDevice(aws.Module()) as device:
        platform = EnclavePlatform(NitroCollector(Nsm(device.path), given), tmp_path / "starts")
        gpus = NvidiaCollector(given, driver.shared_object)
        claims, bound, evidence = await attest(tmp_path, platform=platform, gpus=GPUS, collectors=(gpus,))
    assert (claims.key_hardware, claims.gpus) == ("nitro", GPUS)
    assert nitro_failures(evidence["nitro"], bound, (NitroRoot.of(x509.parse(aws.root().der)),)) == []
    assert nvidia_failures(evidence["nvidia"], bound, nvidia_roots()) == []


class Slow:
    """A collector that waits until it may go on."""

    kind = "slow"

    def __init__(self) -> None:
        self.may_go_on, self.entered = threading.Event(), threading.Event()

    def collect(self, root: bytes) -> Evidence:
        self.entered.set()
        assert self.may_go_on.wait(60)
        return lambda proof: b"{}"

    async def hold(self, gateway: GatewaySide) -> int:
        """Ask for a statement, and wait until its collection began and cannot go on."""
        self.may_go_on.clear()
        self.entered.clear()
        asked = gateway.send(messages.Attest(id=100, nonce=bytes(16)))
        assert await asyncio.to_thread(self.entered.wait, 60)
        return asked


async def test_slow_gpus_do_not_hold_up_sessions(tmp_path: Path) -> None:
    slow = Slow()
    slow.may_go_on.set()
    async with running_room(tmp_path, collectors=(slow,)) as room:
        gateway = await room.greeted()
        asked = await slow.hold(gateway)
        await asyncio.wait_for(gateway.open(), 60)
        slow.may_go_on.set()
        made = await gateway.answer(asked)
        assert isinstance(made, messages.Attestation)
        assert [item.kind for item in made.evidence] == ["none", "slow"]


async def test_a_slow_tee_does_not_hold_up_sessions(tmp_path: Path) -> None:
    slow = Slow()
    slow.may_go_on.set()
    platform = EnclavePlatform(slow, tmp_path / "starts")
    slow.kind = "tdx"
    async with running_room(tmp_path, platform=platform) as room:
        gateway = await room.greeted()
        asked = await slow.hold(gateway)
        await asyncio.wait_for(gateway.open(), 60)
        slow.may_go_on.set()
        assert isinstance(await gateway.answer(asked), messages.Attestation)


async def test_gpus_that_fail_fail_the_statement(tmp_path: Path) -> None:
    class Lost(Slow):
        def collect(self, root: bytes) -> Evidence:
            if self.may_go_on.is_set():
                raise NotReady("nvml.gpu_lost", "gone")
            return lambda proof: b"{}"

    lost = Lost()
    async with running_room(tmp_path, collectors=(lost,)) as room:
        gateway = await room.greeted()
        lost.may_go_on.set()
        failure = await gateway.ask(messages.Attest(id=100, nonce=bytes(16)), messages.Failure)
        assert failure.code == "nvml.gpu_lost"


def test_no_device_refuses_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(NotReady) as caught:
        EnclavePlatform(NitroCollector(Nsm(tmp_path / "nsm"), tmp_path), tmp_path / "starts")
    assert caught.value.code == "nsm.absent"


def test_every_start_has_a_key_of_its_own_and_is_counted(tmp_path: Path) -> None:
    with NsmDevice(aws.Module()) as device:
        made: Callable[[], Collector] = lambda: NitroCollector(Nsm(device.path), tmp_path)  # noqa: E731
        first, second = (EnclavePlatform(made(), tmp_path / "starts") for _ in range(2))
        assert len(items(first)) == 3
    assert first.public_key != second.public_key
    assert [first.raise_start_counter(), second.raise_start_counter()] == [1, 2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["starts"]  # the key is written nowhere
    first.close()
