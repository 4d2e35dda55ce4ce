"""A real gateway and a real attestor as processes, and no engine: enough for the log. The key is one that the operator owns, or a TPM's."""

from __future__ import annotations

import http.client
import json
import os
import ssl
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from e2e.processes import Process
from fakes.attestor_process import Deployment
from ports import free_port
from rlu_attestation.encoding import b64u
from rlu_server import swtpm
from rlu_server.core.apikeys import KeyFile, mint

START_S = 60.0
POLICY = """\
version = 1
pcrs = "any"
[profiles.cpu]
keys = ["none", "tpm2"]
[trust]
ek_roots = []
registrars = []
unsafe_accept_emulated_tpm = true
unsafe_accept_unverified_boot = true
[time]
max_statement_age_s = 7200
clock_skew_s = 60
[accept]
hardware_profiles = "any"
regions = "any"
boundaries = "any"
sites = "any"
models = "any"
engines = "any"
engine_arguments = "any"
gateways = "any"
gateway_images = "any"
debug_states = "any"
[channel]
origins = ["gateway-memory"]
[lock]
attestor = "any"
engine = "any"
gateway = "any"
[minimum_source]
default = "asserted"
"""


class LogStack:
    """Started when entered; `url`, and files for the command line: `policy`, `key` (a tenant's) and `exporter` (the exporter's).

    Args:
        settings: more of the section `[log]`.
        secret: the software key; one is made if there is none, and no TPM.
        tpm: what holds the key instead.
        key_path: where in the TPM or beside it; a file of the state directory, if there is none.
    """

    def __init__(
        self,
        home: Path,
        settings: str = "",
        secret: bytes | None = None,
        tpm: swtpm.SoftwareTpm | None = None,
        key_path: str = "",
    ) -> None:
        self.home = home
        home.mkdir(exist_ok=True)
        self.secret = home / "key.pem"
        if secret is None:
            made = ec.generate_private_key(ec.SECP256R1())
            secret = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.secret.write_bytes(secret)
        self.port = free_port()
        keys = home / "apikeys.json"
        self.deployment = Deployment(
            home,
            tpm,
            f'key_path = "{self.secret if tpm is None else key_path}"\n'
            f'[gateway]\nport = {self.port}\napi_keys_file = "{keys}"\n'
            f'drain_timeout_s = 1\n[model]\nname = "m"\n[log]\nexporter = "ops/siem"\n{settings}',
        )
        self.policy = home / "policy.toml"
        self.policy.write_text(POLICY)
        if tpm is not None:
            self._enrol(tpm)
        for part in ("engine", "gateway", "attestor"):
            (self.deployment.runtime / part).mkdir(mode=0o700, exist_ok=True)
        made = [mint(os.urandom(8), os.urandom(32), *who, 0) for who in (("acme", "alice"), ("ops", "siem"))]
        keys.write_bytes(KeyFile(pseudonym_key=b64u(os.urandom(32)), keys=[r for r, _ in made]).to_json())
        keys.chmod(0o600)
        self.key, self.exporter = home / "key", home / "exporter"
        self.key.write_text(made[0][1])
        self.exporter.write_text(made[1][1])
        self.log = self.deployment.state / "log"
        self.url = f"https://localhost:{self.port}"
        self.processes: dict[str, Process] = {}

    @property
    def common(self) -> tuple[object, ...]:
        """Options that every look at this server takes."""
        return ("--policy", self.policy, "--api-key-file", self.key, "--insecure-accept-software-key")

    def __enter__(self) -> LogStack:
        for part in ("attestor", "gateway"):
            self.start(part)
        deadline = time.monotonic() + START_S
        while not self._answers():
            assert time.monotonic() < deadline, self.output()
            assert all(p.running for p in self.processes.values()), self.output()
            time.sleep(0.05)
        return self

    def start(self, part: str) -> None:
        command = [sys.executable, "-m", f"rlu_server.{part}", "--config", str(self.deployment.config)]
        self.processes[part] = Process(command, self.home / f"{part}.log")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for part in ("gateway", "attestor"):
            self.processes[part].stop()

    def output(self) -> str:
        return "\n".join(process.output() for process in self.processes.values())

    def call(self, method: str, path: str, body: object = None, key: Path | None = None) -> tuple[int, Any]:
        """One request."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection("localhost", self.port, timeout=60, context=context)
        headers = {"Authorization": f"Bearer {(key or self.key).read_text()}"}
        content = None if body is None else json.dumps(body)
        if content is not None:
            headers["Content-Type"] = "application/json"
        try:
            connection.request(method, path, content, headers)
            response = connection.getresponse()
            with response:
                data = response.read()
            return response.status, json.loads(data) if data else None
        finally:
            connection.close()

    def open_sessions(self, count: int = 1) -> list[dict[str, Any]]:
        """Sessions, each a leaf of the log."""
        opened = []
        for _ in range(count):
            status, answer = self.call("POST", "/v1/rlu/sessions", {"nonce": b64u(os.urandom(16))})
            assert status == 201, answer
            opened.append(answer)
        return opened

    def _enrol(self, tpm: swtpm.SoftwareTpm) -> None:
        self.deployment.enrol()
        root, registrar = (
            swtpm.root_certificate(tpm.directory),
            self.deployment.registrar / "registrar.crt.pem",
        )
        text = POLICY.replace("ek_roots = []", f'ek_roots = ["{root}"]')
        self.policy.write_text(text.replace("registrars = []", f'registrars = ["{registrar}"]'))

    def _answers(self) -> bool:
        try:
            return self.call("GET", "/v1/rlu/log/head")[0] == 200
        except (OSError, ssl.SSLError, http.client.HTTPException):
            return False
