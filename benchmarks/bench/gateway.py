"""The gateway as it runs in service: its own process, the real attestor beside it, everything on.

Both share the core of the system under test and both are counted. The key is a software key unless a software TPM is asked for: swtpm
spends CPU time for what hardware would do by itself, so it runs on the other core and is not counted.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import secrets
import ssl
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from bench.peers import Bench, System
from bench.processes import Process, accepts, free_port, start, wait_until
from rlu_attestation.encoding import b64u
from rlu_server.core.apikeys import KeyFile, mint

DIGEST = b64u(bytes(32))
FACTS = {
    "model": {"name": "scripted", "manifest_sha256": DIGEST},
    "engine": {"name": "scripted", "version": "0", "arguments_sha256": DIGEST},
    "hardware": {"profile": "benchmark"},
    "region": "benchmark",
    "boundary": "benchmark",
    "site": "benchmark",
}
SETTINGS = """
state_dir = "{state}"
runtime_dir = "{runtime}"
[attestation]
insecure_software_key = true
[gateway]
host = "127.0.0.1"
port = {port}
insecure_plain_http = {plain}
api_keys_file = "{keys}"
max_connections = 8192
{workers}[model]
name = "scripted"
"""


def rlu(bench: Bench) -> System:
    return _gateway(bench, "rlu", tls=False)


def rlu_tls(bench: Bench) -> System:
    return _gateway(bench, "rlu-tls", tls=True)


def _gateway(bench: Bench, name: str, tls: bool) -> System:
    home = bench.scratch / name
    runtime, state = home / "runtime", home / "state"
    for directory in (
        runtime / "attestor",
        runtime / "engine",
        runtime / "gateway",
        runtime / "facts",
        state,
    ):
        directory.mkdir(parents=True, mode=0o700)
    # Each gateway looks for the engine in its own runtime directory.
    (runtime / "engine" / "engine.sock").symlink_to(bench.engine.uds)
    (runtime / "facts" / "instance.json").write_text(json.dumps(FACTS))
    key = _key_file(home / "apikeys.json")
    port = free_port()
    config = home / "rlu.toml"
    values = {"state": state, "runtime": runtime, "port": port, "keys": home / "apikeys.json"}
    workers = "" if bench.workers == 1 else f"workers = {bench.workers}\n"
    config.write_text(SETTINGS.format(**values, plain="false" if tls else "true", workers=workers))
    attestor = _start(bench, home, "attestor", config)
    wait_until(attestor, (runtime / "attestor" / "attestor.sock").exists)
    gateway = _start(bench, home, "gateway", config)
    ca = runtime / "gateway" / "gateway.crt" if tls else None
    try:
        wait_until(gateway, accepts(port))
        wait_until(gateway, _ready(port, ca))
    except BaseException:
        attestor.stop()
        raise
    return System(
        name,
        f"https://localhost:{port}" if tls else f"http://127.0.0.1:{port}",
        [attestor, gateway],
        ca=ca,
        key=key,
        note="gateway and attestor on one core, both counted; software key; every response has its signed receipt",
    )


def _ready(port: int, ca: Path | None) -> Callable[[], bool]:
    """Has the gateway verified its attestor and proven its engine?"""

    def ask() -> bool:
        if ca is None:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        else:
            trust = ssl.create_default_context(cafile=str(ca))
            connection = http.client.HTTPSConnection("localhost", port, timeout=5, context=trust)
        with contextlib.closing(connection):
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200

    return ask


def _start(bench: Bench, home: Path, part: str, config: Path) -> Process:
    return start(part, [sys.executable, "-m", f"rlu_server.{part}", "--config", config], bench.cores, home)


def _key_file(path: Path) -> str:
    record, key = mint(secrets.token_bytes(8), secrets.token_bytes(32), "bench", "bench", int(time.time()))
    file = KeyFile(pseudonym_key=b64u(secrets.token_bytes(32)))
    path.write_bytes(msgspec.structs.replace(file, keys=[record]).to_json())
    path.chmod(0o600)
    return key
