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
POD = """
import importlib.util, os, sys
spec = importlib.util.spec_from_file_location("rlu_lock", sys.argv[1])
lock = importlib.util.module_from_spec(spec)
sys.modules["rlu_lock"] = lock
spec.loader.exec_module(lock)
lock._prctl(lock._PR_SET_NO_NEW_PRIVS, 1)
lock._drop_capabilities()
lock._apply_seccomp({"deny": ["mount"], "namespaces": False})
os.execv(sys.argv[2], sys.argv[2:])
"""
"""What a container runtime does for a restricted pod (`capabilities: drop: [ALL]`, `seccompProfile: RuntimeDefault`)."""


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
        self.launcher: Path | None = None
        self.pod = False
        """Start as a restricted pod does: no capability, no namespaces."""
        self.model = snippets / "model"
        self.model.mkdir(exist_ok=True)

    def change_launcher(self, text: str, by: str) -> None:
        """Use a launcher in which this one place reads otherwise."""
        source = LAUNCHER.read_text()
        assert source.count(text) == 1
        self.launcher = self.snippets / "rlu_lock.py"
        self.launcher.write_text(source.replace(text, by))

    def command(self, code: str, posture_fd: int | None, arguments: tuple[str, ...] = ()) -> list[str]:
        """The launcher's command line to run `code` as the program (a module in the same process)."""
        (self.snippets / "snippet.py").write_text(code)
        place = self.snippets / "profile.json"
        place.write_text(json.dumps(self.profile))
        python, launcher = sys.executable, self.launcher or LAUNCHER
        if self.user is not None or self.profile.get("user"):
            # One that every user may execute, and a copy of the launcher likewise: it is a single file.
            python, launcher = "/usr/bin/python3", self.snippets / "rlu_lock.py"
            launcher.write_text((self.launcher or LAUNCHER).read_text())
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
        if posture_fd is not None:
            command += ["--posture-fd", str(posture_fd)]
        command += ["--path", str(self.snippets), "--module", "snippet", "--", *arguments]
        if self.pod:
            command = [python, "-I", "-B", "-c", POD, str(launcher), *command]
        if self.user is not None:
            command = ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups", *command]
        return command

    def begin(self, code: str) -> subprocess.Popen[str]:
        """Start, and leave running."""
        command = self.command(code, None)
        return subprocess.Popen(
            command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True, cwd="/", start_new_session=True
        )

    def run(
        self,
        code: str = "",
        *,
        environment: dict[str, str] | None = None,
        pass_fds: tuple[int, ...] = (),
        arguments: tuple[str, ...] = (),
    ) -> Outcome:
        """Lock, then run `code` as the program, to its end."""
        reading, writing = os.pipe()
        command = self.command(code, writing, arguments)
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
