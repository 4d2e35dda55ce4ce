"""The attestor's parts in one event loop: software key that can be slow or fail, real ledger, real log file, real socket."""

from __future__ import annotations

import asyncio
import io
import json
import os
import secrets
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fakes.attestor_process import Deployment, GatewaySide
from rlu_attestation import jose
from rlu_attestation.gpus import Gpus
from rlu_attestation.instance import issuer
from rlu_server.attestor import facts
from rlu_server.attestor.attesting import Attesting
from rlu_server.attestor.collect import Collector
from rlu_server.attestor.committer import SEGMENT_LEAVES, Committer
from rlu_server.attestor.cosignatures import Cosignatures
from rlu_server.attestor.errors import HardwareUnavailable
from rlu_server.attestor.events import EventLog
from rlu_server.attestor.exporting import Exporting, WhenBehind
from rlu_server.attestor.journal import Journal
from rlu_server.attestor.ledger import Ledger
from rlu_server.attestor.past import Past
from rlu_server.attestor.platform import Evidence, Platform
from rlu_server.attestor.roster import Attestor, Roster
from rlu_server.attestor.server import Server
from rlu_server.attestor.software import SoftwarePlatform


class ScriptedPlatform(SoftwarePlatform):
    """A software key that remembers what it signed, waits at `gate`, and fails while `failing`."""

    def __init__(self, directory: Path) -> None:
        super().__init__(None, directory / "starts")
        self.signed: list[bytes] = []
        self.roots: list[bytes] = []
        self.failing = False
        self.gate = threading.Event()
        self.gate.set()

    def sign(self, digest: bytes) -> bytes:
        self._wait()
        self.signed.append(digest)
        return super().sign(digest)

    def collect(self, root: bytes) -> Evidence:
        self._wait()
        self.roots.append(root)
        return super().collect(root)

    def _wait(self) -> None:
        assert self.gate.wait(60)
        if self.failing:
            raise HardwareUnavailable("tpm.unreachable", "scripted")


class Room:
    """Everything, running; `now` is the clock."""

    def __init__(
        self,
        directory: Path,
        allowed: frozenset[int] | None = None,
        *,
        segment_leaves: int = SEGMENT_LEAVES,
        export_limit: int = 0,
        when_behind: WhenBehind = "refuse",
        platform: Platform | None = None,
        gpus: Gpus | None = None,
        collectors: Sequence[Collector] = (),
    ) -> None:
        self.now = 1_000_000
        self.deployment = Deployment(directory, None)
        self.scripted = ScriptedPlatform(directory)
        self.platform = self.scripted if platform is None else platform
        self.stream = io.StringIO()
        self.events = EventLog(self.stream)
        jwk = jose.public_jwk(self.platform.public_key)
        self.issuer = issuer(jose.thumbprint(jwk))
        log = self.deployment.state / "log"
        self.journal = Journal(log, self.issuer, jwk)
        self.journal.accept(None)
        self.ledger = Ledger(self.issuer, secrets.token_bytes, b"b" * 32)
        self.committer = Committer(
            self.ledger,
            self.journal,
            self.platform,
            lambda: self.now,
            self.events,
            segment_leaves=segment_leaves,
        )
        self.exporting = Exporting(log, self.issuer, export_limit, when_behind)
        key = facts.Key(jwk, self.platform.kind, 0, 1, None)
        self.attesting = Attesting(
            self.committer,
            self.platform,
            key,
            self.deployment.runtime / "facts",
            7200,
            lambda: self.now,
            gpus,
            collectors,
        )
        attestor = Attestor(
            self.committer, self.attesting, lambda: self.now, self.events, 3600, self.exporting, Past(log)
        )
        self.server = Server(
            Roster(attestor, Cosignatures(log, (), self.events)),
            self.deployment.socket,
            frozenset({os.getuid()}) if allowed is None else allowed,
        )

    async def connect(self) -> GatewaySide:
        return await GatewaySide.connect(self.deployment.socket)

    async def greeted(self) -> GatewaySide:
        gateway = await self.connect()
        await gateway.hello()
        return gateway

    def lines(self, kind: str) -> list[dict[str, object]]:
        """Lines of the log of one kind. The last one may still be written: it counts when it is whole."""
        whole = self.deployment.log.read_text().split("\n")[:-1]
        return [line for line in map(json.loads, whole) if line["kind"] == kind]

    def event_names(self) -> list[str]:
        return [json.loads(line)["event"] for line in self.stream.getvalue().splitlines()]


@asynccontextmanager
async def running_room(
    directory: Path, allowed: frozenset[int] | None = None, **options: Any
) -> AsyncIterator[Room]:
    room = Room(directory, allowed, **options)
    await room.committer.sign_head()
    await room.server.start()
    tasks = [
        asyncio.create_task(work)
        for work in (room.committer.run(), room.attesting.run(), room.server.run_clock())
    ]
    try:
        yield room
    finally:
        room.scripted.gate.set()
        room.server.stop_listening()
        await room.server.close_connections()
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        room.committer.close()
        room.journal.close()
        bugs = [
            r for r in results if isinstance(r, BaseException) and not isinstance(r, asyncio.CancelledError)
        ]
        assert bugs == []
