"""`rlu demo` as a newcomer starts it: real vLLM under the lock, a software TPM, attestor and gateway; in a process of its own."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from e2e.caller import Answer, Caller, chat
from e2e.processes import Process, command_line, descendants, environment, until

MODEL = "rlu-demo"
START_S = 540.0
"""vLLM on two busy cores takes minutes to start; a machine to itself takes one."""
RLU = (sys.executable, "-c", "from rlu_attestation.cli import main; main()")


class Served:
    """The deployment. `caller` has the demo's own key; `markers` must be found nowhere afterwards."""

    def __init__(self, home: Path, model: Path) -> None:
        self.directory = home / "demo"
        self.directory.mkdir(mode=0o700)
        shutil.copytree(model, self.directory / "model")
        self.markers: list[str] = []
        self.process = Process([*RLU, "demo", "--dir", self.directory, "--port", "0"], home / "rlu-demo.log")

    def wait_until_served(self) -> None:
        """Until it says that it serves, which is after it has verified itself."""

        def served() -> bool:
            assert self.process.running, self.process.output()
            return "until Ctrl-C" in self.process.output()

        until(served, START_S, self.process.output, 0.5)
        found = re.search(r"serving at https://localhost:(\d+) until", self.process.output())
        assert found is not None, self.process.output()
        key = (self.directory / "api-key").read_text().strip()
        self.caller = Caller(int(found[1]), self.directory / "gateway.crt", key)
        (gateway,) = self.processes("--module rlu_server.gateway")
        place = re.search(r"--config (\S+)/facts/", command_line(gateway))
        assert place is not None
        self.runtime = Path(place[1])

    @property
    def policy(self) -> Path:
        return self.directory / "policy.toml"

    @property
    def state(self) -> Path:
        return self.directory / "state"

    def marker(self) -> str:
        """A word that occurs nowhere else."""
        self.markers.append(f"canary{os.urandom(16).hex()}")
        return self.markers[-1]

    def new_tenant(self, tenant: str) -> Caller:
        """A key for another tenant; the running gateway takes it up by itself."""
        made = self.rlu(
            "apikeys", "create", "--tenant", tenant, "--principal", "p", "--json", "--file", self.keys
        )
        assert made.returncode == 0, made.stderr
        other = replace(self.caller, key=json.loads(made.stdout)["key"])
        until(lambda: other.get("/v1/models").status == 200, 60, lambda: "the new key is not taken up")
        return other

    @property
    def keys(self) -> Path:
        return self.state / "apikeys.json"

    def rlu(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """A command of the `rlu` tool."""
        return subprocess.run(
            [*RLU, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            env=environment({"COLUMNS": "200"}),
            check=False,
        )

    def ask(self, content: str, caller: Caller | None = None, **more: object) -> Answer:
        """A short chat answer, at temperature 0."""
        body = chat(content, MODEL, **{"temperature": 0, "max_tokens": 24, **more})
        return (caller or self.caller).post("/v1/chat/completions", body)

    def ready(self) -> bool:
        try:
            return self.caller.call("GET", "/readyz", timeout_s=10).status == 200
        except (OSError, http.client.HTTPException):
            return False

    def wait_ready(self, timeout_s: float = START_S) -> None:
        until(self.ready, timeout_s, self.process.output, 0.3)

    def processes(self, word: str) -> list[int]:
        """Process ids, below this deployment, of the program with this word on its command line."""
        return [pid for pid in descendants(self.process.pid) if word in command_line(pid)]
