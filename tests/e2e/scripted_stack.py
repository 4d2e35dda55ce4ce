"""The real gateway and the real attestor on a real software TPM as processes, with a scripted engine where vLLM would be."""

from __future__ import annotations

import base64
import http.client
import json
import os
import socket
import ssl
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from e2e.caller import Caller
from e2e.processes import Process, until
from fakes.attestor_process import INSTANCE_FACTS, Deployment
from ports import free_port
from rlu_attestation.encoding import b64u
from rlu_server import swtpm
from rlu_server.core.apikeys import KeyFile, KeyRecord, mint

ENGINE = Path(__file__).resolve().parents[2] / "benchmarks" / "scripted_engine.py"
MODEL = "scripted"
GPT, CLAUDE = "gpt-5.4", "claude-sonnet-4-5"
"""Aliases of it: what agents and SDKs ask for by themselves. The second is one of a family."""
START_S = 60.0
BOOK: dict[str, Any] = {
    "model": MODEL,
    "default": {"events": 4},
    "scripts": {
        "endless": {"events": 100_000, "interval_ms": 20},
        "tool": {"turns": [{"text": "Let me look.", "calls": [{"name": "look", "arguments": {"at": "it"}}]}]},
        # Slow enough for the answer to have begun: what breaks off before that is another case.
        "broken": {"events": 9, "interval_ms": 400, "fault": {"kind": "close", "after": 3}},
        "refuses": {"fault": {"kind": "status", "status": 500}},
    },
}
MAX_BODY = 256 * 1024


@dataclass(frozen=True, slots=True)
class SeenRequest:
    """A request as the engine got it."""

    target: str
    body: bytes
    outcome: str


class Scripted:
    """The processes, and tenants' keys: `caller` and `other`; `revoked` was one of `caller`'s tenant; `limited` asks one by one."""

    def __init__(self, home: Path, tpm: swtpm.SoftwareTpm) -> None:
        self.home = home
        port = free_port()
        keys = home / "apikeys.json"
        settings = (
            f'[gateway]\nport = {port}\napi_keys_file = "{keys}"\nmax_body_bytes = {MAX_BODY}\n'
            f'drain_timeout_s = 2\n[model]\nname = "{MODEL}"\n'
            f'aliases = {{ "{GPT}" = "{MODEL}", "claude-*" = "{MODEL}" }}\n'
            f'[admission]\nlimits_file = "{home / "limits.toml"}"\n'
        )
        (home / "limits.toml").write_text(f"[tenants.{_WHO[-1][0]}]\nconcurrent_requests = 1\n")
        self.tpm = tpm
        self.deployment = Deployment(home, tpm, settings)
        model = {**INSTANCE_FACTS["model"], "name": MODEL}
        self.deployment.write_facts({**INSTANCE_FACTS, "model": model, "hardware": {"profile": "cpu-demo"}})
        self.deployment.enrol()
        runtime = self.deployment.runtime
        for part in ("engine", "gateway", "attestor"):
            (runtime / part).mkdir(mode=0o700, exist_ok=True)
        made = [mint(os.urandom(8), os.urandom(32), *who, 0) for who in _WHO]
        records = [record for record, _ in made]
        records[2] = msgspec.structs.replace(records[2], revoked=1)
        self._write_keys(keys, records)
        certificate = runtime / "gateway" / "gateway.crt"
        self.caller, self.other, self.revoked, self.limited = (
            Caller(port, certificate, key) for _, key in made
        )
        self.processes: dict[str, Process] = {}

    def start(self) -> None:
        runtime = self.deployment.runtime
        book = self.home / "book.json"
        book.write_text(json.dumps(BOOK))
        uds = runtime / "engine" / "engine.sock"
        self._run("engine", ENGINE, "--uds", uds, "--script", book, "--inspect")
        until(uds.exists, START_S, self.logs)
        for part in ("attestor", "gateway"):
            self._run(part, "-m", f"rlu_server.{part}", "--config", self.deployment.config)
        until(self._ready, START_S, self.logs)

    def stop(self) -> None:
        for part in ("gateway", "attestor", "engine"):
            if part in self.processes:
                self.processes[part].stop()

    def logs(self) -> str:
        return "\n".join(process.output() for process in self.processes.values())

    def authorities(self) -> tuple[Path, Path]:
        """Certificates of the TPM's vendor and of the registrar, for a policy to name."""
        return swtpm.root_certificate(self.tpm.directory), self.deployment.registrar / "registrar.crt.pem"

    def state_files(self) -> list[Path]:
        """Everything that these processes keep."""
        return [path for path in self.deployment.state.rglob("*") if path.is_file()]

    def script(self, book: dict[str, Any]) -> None:
        """What the engine says from now on."""
        self._engine("PUT", json.dumps(book))

    def seen(self) -> list[SeenRequest]:
        """The requests of clients that the engine got since it was last asked to forget; not the gateway's own for its health."""
        return [
            SeenRequest(one["target"], base64.b64decode(one["body"]), one["outcome"])
            for one in self._engine("GET")
            if one["method"] == "POST"
        ]

    def forget(self) -> None:
        self._engine("DELETE")

    def _engine(self, method: str, content: str | None = None) -> Any:
        connection = http.client.HTTPConnection("engine", timeout=60)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(self.deployment.runtime / "engine" / "engine.sock"))
        try:
            connection.request(method, "/_scripted", content)
            response = connection.getresponse()
            with response:
                answer = json.loads(response.read())
            assert response.status == 200, answer
            return answer
        finally:
            connection.close()

    def _run(self, part: str, *arguments: str | Path) -> None:
        self.processes[part] = Process([sys.executable, *arguments], self.home / f"{part}-process.log")

    def _ready(self) -> bool:
        assert all(process.running for process in self.processes.values()), self.logs()
        try:
            return self.caller.certificate.exists() and self.caller.get("/readyz").status == 200
        except (OSError, ssl.SSLError, http.client.HTTPException):
            return False

    @staticmethod
    def _write_keys(path: Path, records: list[KeyRecord]) -> None:
        path.write_bytes(KeyFile(pseudonym_key=b64u(os.urandom(32)), keys=records).to_json())
        path.chmod(0o600)


_WHO = (("acme", "alice"), ("globex", "bob"), ("acme", "carol"), ("initech", "dave"))
