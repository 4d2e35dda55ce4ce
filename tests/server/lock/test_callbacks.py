"""Libraries that call back into Python do so under the attestor's lock too: NVIDIA's for NVSwitches does nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from locked import Room

from fakes import nscq as fake

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = [str(ROOT / name) for name in ("server", "attestation", "tests")]
CODE = """
import os, sys
sys.path[:0] = {packages!r}
from pathlib import Path
from fakes import nscq as fake
from rlu_server.attestor.collect import nscq

fake.shared_object = lambda: {path!r}
switch = fake.FakeSwitch(lambda nonce: b"report over " + nonce, b"chain")
fabric = fake.FakeFabric(Path(os.environ["TMPDIR"]) / "fabric", [switch])
with nscq.opened(fabric.shared_object) as opened:
    (label,) = opened.switches()
    answer = opened.attest(label, b"n" * 32)
os.write(1, answer.report + b", " + answer.certificates)
"""


def test_switches_report_under_the_attestors_lock(rooms: Callable[..., Room]) -> None:
    room = rooms("attestor")
    room.profile["read"] += [*PACKAGES, fake.shared_object()]
    room.profile["environment"]["set"]["TMPDIR"] = str(room.scratch)
    outcome = room.run(CODE.format(packages=PACKAGES, path=fake.shared_object()))
    assert (outcome.status, outcome.output) == (0, "report over " + "n" * 32 + ", chain"), outcome.errors
