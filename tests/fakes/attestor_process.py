"""A real attestor process on a real software TPM, and the gateway's side of its socket for tests."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, TypeVar

import msgspec

from rlu_attestation.encoding import b64u
from rlu_server import swtpm
from rlu_server.attestor import messages
from rlu_server.attestor.messages import Answer
from rlu_server.registrar.demo import enrol
from rlu_server.registrar.enrolling import Place

START_S = 60.0
A = TypeVar("A")
INSTANCE_FACTS: dict[str, Any] = {
    "boundary": "laptop",
    "engine": {"arguments_sha256": b64u(bytes(32)), "name": "vllm", "version": "0.32.0"},
    "hardware": {"profile": "cpu"},
    "model": {"manifest_sha256": b64u(b"\x01" * 32), "name": "demo"},
    "region": "eu-central-1",
    "site": "desk",
}
POSTURE: dict[str, bool | int | str] = {"no_new_privs": True, "landlock_abi": 7}


class Deployment:
    """Directories, facts and configuration of one attestor."""

    def __init__(self, directory: Path, tpm: swtpm.SoftwareTpm | None, settings: str = "") -> None:
        self.directory = directory
        self.tpm = tpm
        self.config = directory / "rlu.toml"
        self.state = directory / "state"
        self.runtime = directory / "run"
        self.socket = self.runtime / "attestor" / "attestor.sock"
        self.log = self.state / "log" / "log.jsonl"
        self.registrar = directory / "registrar"
        (self.runtime / "facts").mkdir(parents=True, mode=0o700)
        self.write_facts(INSTANCE_FACTS)
        self.write_posture("engine", POSTURE)
        self.write_posture("attestor", POSTURE)
        key = "insecure_software_key = true" if tpm is None else f'tcti = "{tpm.tcti}"'
        self.config.write_text(
            f'state_dir = "{self.state}"\nruntime_dir = "{self.runtime}"\n[attestation]\n{key}\n{settings}'
        )

    def write_facts(self, facts: dict[str, Any]) -> None:
        (self.runtime / "facts" / "instance.json").write_text(json.dumps(facts))

    def write_posture(self, role: str, posture: dict[str, Any]) -> None:
        (self.runtime / "facts" / f"{role}.json").write_text(json.dumps(posture))

    def enrol(self) -> None:
        """Enrol the TPM with a registrar of this deployment's own."""
        assert self.tpm is not None
        enrol(
            self.registrar,
            self.state,
            self.tpm.tcti,
            Place("eu-central-1", "laptop", "desk"),
            datetime.now(timezone.utc),
            [swtpm.root_certificate(self.tpm.directory)],
            [swtpm.issuer_certificate(self.tpm.directory)],
        )


class AttestorProcess:
    """`python -m rlu_server.attestor`, started and stopped.

    Args:
        before: Python that the process runs first.
    """

    def __init__(self, deployment: Deployment, *arguments: str, before: str = "") -> None:
        self.deployment = deployment
        self.socket = deployment.socket
        self._arguments = arguments
        self._before = before
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> AttestorProcess:
        """Start it and wait until it listens."""
        run = "import runpy; runpy.run_module('rlu_server.attestor', run_name='__main__', alter_sys=True)"
        command = [
            sys.executable,
            *(("-c", f"{self._before}\n{run}") if self._before else ("-m", "rlu_server.attestor")),
            "--config",
            str(self.deployment.config),
            *self._arguments,
        ]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RLU_")}
        with (self.deployment.directory / "attestor.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        deadline = time.monotonic() + START_S
        while not self.socket.exists():
            assert self._process.poll() is None, self.output()
            assert time.monotonic() < deadline, "the attestor did not come up"
            time.sleep(0.01)
        return self

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def output(self) -> str:
        """Everything it has written since it was first started."""
        return (self.deployment.directory / "attestor.log").read_text()

    def events(self) -> list[str]:
        """Names of the events it has written; the last line may still be written."""
        return [json.loads(line)["event"] for line in self.output().split("\n")[:-1] if line.startswith("{")]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait; returns the exit status."""
        assert self._process is not None
        self._process.send_signal(number)
        status = self._process.wait(60)
        self._process = None
        if number == signal.SIGKILL:
            self.socket.unlink(missing_ok=True)  # so that `start` waits for the new one
        return status

    async def connect(self) -> GatewaySide:
        return await GatewaySide.connect(self.socket)

    def __enter__(self) -> AttestorProcess:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            self.stop()


class GatewaySide:
    """A gateway's end of the socket, as plain as can be: one request, one answer; or raw bytes.

    `opened` holds those that are not disconnected yet, for a fixture to end them.
    """

    opened: ClassVar[list[GatewaySide]] = []

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.last_id = 0
        self._answers: dict[int, Answer] = {}
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(Answer).decode

    @classmethod
    async def connect(cls, socket: Path) -> GatewaySide:
        side = cls(*await asyncio.open_unix_connection(str(socket), limit=1 << 24))
        cls.opened.append(side)
        return side

    def next_id(self) -> int:
        self.last_id += 1
        return self.last_id

    def send(self, request: messages.Message) -> int:
        payload = self._encode(request)
        self.writer.write(len(payload).to_bytes(4, "big") + payload)
        return request.id

    async def receive(self) -> Answer:
        """The next answer, whosever it is."""
        size = int.from_bytes(await self.reader.readexactly(4), "big")
        answer: Answer = self._decode(await self.reader.readexactly(size))
        return answer

    async def answer(self, request_id: int) -> Answer:
        """The answer to one request; those to others are kept."""
        while request_id not in self._answers:
            found = await self.receive()
            self._answers[found.id] = found
        return self._answers.pop(request_id)

    async def ask(self, request: messages.Message, kind: type[A]) -> A:
        answer = await self.answer(self.send(request))
        assert isinstance(answer, kind), answer
        return answer

    async def hello(self, spki: bytes | None = b"\x07" * 32) -> messages.Welcome:
        origin: messages.TlsOrigin = "plaintext" if spki is None else "gateway-memory"
        request = messages.Hello(
            id=self.next_id(),
            gateway_version="0.1.0",
            tls_origin=origin,
            tls_spki_sha256=spki,
            posture=dict(POSTURE),
        )
        return await self.ask(request, messages.Welcome)

    def opening(self, ttl_s: int = 3600, nonce: bytes | None = b"n" * 16) -> messages.OpenSession:
        return messages.OpenSession(
            id=self.next_id(),
            tenant="tenant-a",
            principal="principal-a",
            nonce=nonce,
            cnf_jkt=None,
            commitment_key_digest=b"\x05" * 32,
            opening=None,
            ttl_s=ttl_s,
        )

    async def open(self, ttl_s: int = 3600) -> messages.SessionOpened:
        return await self.ask(self.opening(ttl_s), messages.SessionOpened)

    async def begin(self, session: str) -> int:
        request = messages.BeginExchange(id=self.next_id(), session=session)
        return (await self.ask(request, messages.ExchangeBegun)).seq

    def receipt(self, session: str, seq: int) -> messages.RecordReceipt:
        return messages.RecordReceipt(
            id=self.next_id(),
            session=session,
            seq=seq,
            route="/v1/responses",
            model="demo",
            status="complete",
            http_status=200,
            request=messages.Commitment(40_000, b"\x01" * 32),
            forwarded=messages.Commitment(40_010, b"\x02" * 32),
            rewritten=["cache_salt"],
            response=messages.Commitment(900, b"\x03" * 32),
            usage=messages.Usage(7000, 30, 6000),
            reason=None,
        )

    async def record(self, session: str, seq: int) -> messages.ReceiptRecorded:
        return await self.ask(self.receipt(session, seq), messages.ReceiptRecorded)

    async def close_session(self, session: str) -> messages.SessionClosed:
        request = messages.CloseSession(
            id=self.next_id(), session=session, reason="client_request", scratch="wiped"
        )
        return await self.ask(request, messages.SessionClosed)

    async def head(self) -> messages.Head:
        return await self.ask(messages.LatestHead(id=self.next_id()), messages.Head)

    async def disconnect(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()
