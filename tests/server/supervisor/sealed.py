"""A sealed model under the supervisor: the broker is real and on loopback; the machine is a fake SEV-SNP guest to it.

The attestor beside has a software key, since no test machine is a guest, so that the supervisor's own look at its settings is left out.
"""

from __future__ import annotations

import contextlib
import socketserver
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deployment import make_model, make_settings, open_on

from fakes.broker_room import BrokerRoom, snp_now
from rlu_server.broker.sealed_files import seal
from rlu_server.broker.serving import BrokerServer
from rlu_server.models import measure
from rlu_server.settings import Settings

SECRET = b"the weights of the model, " * 10_000


class Chip(socketserver.StreamRequestHandler):
    """Makes evidence about the 32 bytes that it is sent."""

    def handle(self) -> None:
        self.wfile.write(snp_now(self.rfile.read(32))["sev-snp"])


@contextlib.contextmanager
def chip() -> Iterator[Path]:
    """A socket that is the device."""
    with tempfile.TemporaryDirectory(prefix="rlu-snp-") as directory:
        place = Path(directory) / "device"
        with socketserver.UnixStreamServer(str(place), Chip) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.05,))
            thread.start()
            yield place
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def broker_in(directory: Path) -> Iterator[BrokerRoom]:
    """A broker, and its model: plain in `directory/m`, sealed in `directory/sealed`."""
    model = make_model(directory)
    (model / "model.safetensors").write_bytes(SECRET)
    made = BrokerRoom(directory, now=time.time(), manifest=measure(model).sha256)
    made.server = BrokerServer(made.desk, ("127.0.0.1", 0), None, lambda *told: None)
    made.server.start()
    seal(model, directory / "sealed", made.key.key, bytes(32), chunk=1 << 16)
    try:
        yield made
    finally:
        made.server.close()
        made.close()


@contextlib.contextmanager
def room_in(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BrokerRoom]:
    """The same, for jobs that supervisors in this process start."""
    (directory / "state").mkdir(mode=0o700)
    with chip() as device, broker_in(directory) as made:
        open_on(device, monkeypatch)
        yield made


def settings_of(room: BrokerRoom, **changes: Any) -> Settings:
    document = make_settings(room.directory).model_dump()
    document["model"].update(path=str(room.directory / "sealed"), name="m")
    document["weights"].update({"broker": f"http://127.0.0.1:{room.server.port}", **changes})
    return Settings.model_validate(document)
