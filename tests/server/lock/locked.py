"""Runs a snippet of Python under the lock and tells what it did. A working launcher, not a mock: every call is a real process."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlu_server.lock import profiles

LAUNCHER = profiles.LAUNCHER
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}


@dataclass
class Outcome:
    status: int
    posture: dict[str, Any]
    refused: list[str]
    output: str
    errors: str


class Room:
    """A scratch directory in memory, a directory for snippets, and a profile.

    Attributes:
        profile: changed freely before `run`; requirements are off unless a test sets them.
    """

    def __init__(self, name: str, user: int | None = None) -> None:
        # Readable by the user that a test may choose, unlike pytest's own directories.
        self.snippets = Path(tempfile.mkdtemp(prefix="rlu-test-", dir="/tmp"))
        self.snippets.chmod(0o755)
        snippets = self.snippets
        self.scratch = Path(tempfile.mkdtemp(prefix="rlu-test-", dir="/dev/shm"))
        self.user = user
        if user is not None:
            os.chown(self.scratch, user, user)
        self.profile: dict[str, Any] = copy.deepcopy(profiles.packaged(name))
        self.profile["require"] = {}
        self.profile["environment"] = {"keep": [], "set": dict(ENVIRONMENT)}
        self.model = snippets / "model"
        self.model.mkdir(exist_ok=True)

    def run(
        self,
        code: str = "",
        *,
        environment: dict[str, str] | None = None,
        pass_fds: tuple[int, ...] = (),
        arguments: tuple[str, ...] = (),
        preload: str = "",
    ) -> Outcome:
        """Lock, then run `code` as the program (a module in the same process)."""
        (self.snippets / "snippet.py").write_text(code)
        place = self.snippets / "profile.json"
        place.write_text(json.dumps(self.profile))
        reading, writing = os.pipe()
        python, launcher = sys.executable, LAUNCHER
        if self.user is not None or self.profile.get("user"):
            # One that every user may execute, and a copy of the launcher likewise: it is a single file.
            python, launcher = "/usr/bin/python3", self.snippets / "rlu_lock.py"
            launcher.write_text(LAUNCHER.read_text())
        command = [python, "-I", "-B", str(launcher), "--profile", str(place)]
        values = {
            "scratch": self.scratch,
            "state": self.scratch,
            "config": self.snippets,
            "readable": self.snippets,
            "model": self.model,
            "tpm": "",
            "evidence_devices": "",
            "tpm_sockets": "",
            "peers": "",
        }
        for name, value in values.items():
            command += ["--define", f"{name}={value}"]
        command += [
            "--posture-fd",
            str(writing),
            "--path",
            str(self.snippets),
            "--module",
            "snippet",
            "--",
            *arguments,
        ]
        if self.user is not None:
            command = ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups", *command]
        try:
            done = subprocess.run(
                command,
                env=ENVIRONMENT if environment is None else environment,
                pass_fds=(writing, *pass_fds),
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
                cwd="/",
            )
        finally:
            os.close(writing)
        with os.fdopen(reading) as pipe:
            document = json.loads(pipe.read() or "{}")
        refused = document.pop("refused", [])
        return Outcome(done.returncode, document, refused, done.stdout, done.stderr)

    def tries(self, code: str) -> str:
        """The name of the error that `code` ends with under the lock, or `ok`."""
        wrapped = "import os, sys, socket, ctypes, signal, errno\ntry:\n"
        wrapped += "".join(f"    {line}\n" for line in code.splitlines())
        wrapped += "except OSError as e:\n    print(errno.errorcode.get(e.errno, e.errno), end='')\nelse:\n    print('ok', end='')\n"
        outcome = self.run(wrapped)
        assert outcome.status == 0, outcome.errors
        return outcome.output
