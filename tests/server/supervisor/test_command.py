"""`rlu serve` and `rlu demo` as commands: signals, exit codes, what is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from deployment import make_model

COMMAND = Path(__file__).with_name("command.py")
ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": os.environ.get("HOME", "/"),
    "RLU_ATTESTATION__INSECURE_SOFTWARE_KEY": "true",
    "RLU_GATEWAY__DRAIN_TIMEOUT_S": "2",
    "RLU_MODEL__SIGNATURE": "unsafe-optional",
}


class Serving:
    """`rlu serve` as a child of ours."""

    def __init__(self, directory: Path, *arguments: str, environment: dict[str, str] | None = None) -> None:
        command = [
            sys.executable,
            str(COMMAND),
            "serve",
            "--state-dir",
            str(directory / "state"),
            "--port",
            "0",
            *arguments,
        ]
        self.process = subprocess.Popen(
            command,
            env={**ENVIRONMENT, **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )
        self.events: list[dict[str, Any]] = []

    def until(self, name: str) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.events.append(json.loads(line))
            if self.events[-1]["event"] == name:
                return self.events[-1]
        assert self.process.stderr is not None
        raise AssertionError((self.events, self.process.stderr.read()))

    def end(self) -> tuple[int, str]:
        out, errors = self.process.communicate(timeout=60)
        self.events += [json.loads(line) for line in out.splitlines()]
        return self.process.returncode, errors


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Callable[..., Serving]]:
    started: list[Serving] = []

    def start(*arguments: str, environment: dict[str, str] | None = None) -> Serving:
        started.append(Serving(tmp_path, *arguments, environment=environment))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.process.communicate()


def runtime_directories() -> set[str]:
    """Those that nobody uses: other deployments may run, start and end meanwhile."""
    found = {path for base in ("/run", "/dev/shm", "/tmp") for path in Path(base).glob("rlu-????????")}
    return {str(path) for path in found if not in_use(path)}


def in_use(directory: Path) -> bool:
    try:
        supervisor = (directory / ".supervisor").read_text().split()[0]
    except (OSError, IndexError):
        return not directory.exists()
    return Path("/proc", supervisor).exists()


def runtime_of(supervisor: int) -> str:
    """The runtime directory of one `rlu serve`, as its children's command lines name it; others may run beside it."""
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    commands = [(Path("/proc") / child / "cmdline").read_bytes().decode().split("\0") for child in children]
    profiles = [
        Path(argument) for words in commands for argument in words if argument.endswith("-profile.json")
    ]
    (directory,) = {str(profile.parents[1]) for profile in profiles}
    return directory


def alive(marker: str) -> list[int]:
    """Processes with the marker in their command line, zombies aside."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if marker.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains(tmp_path: Path, serving: Callable[..., Serving], number: signal.Signals) -> None:
    server = serving("--model", str(make_model(tmp_path)))
    assert server.until("serving")["port"] > 0
    runtime = runtime_of(server.process.pid)
    assert Path(runtime).is_dir()
    server.process.send_signal(number)
    status, errors = server.end()
    assert (status, errors) == (0, "")
    stops = [e["event"] for e in server.events if e["event"].endswith(".stopped") and "status" in e]
    assert stops == ["gateway.stopped", "engine.stopped", "attestor.stopped"]
    assert not Path(runtime).exists()
    assert "SECRET-IN-ENGINE-OUTPUT" not in json.dumps(server.events)


@pytest.mark.parametrize("first", ["attestor.starting", "engine.starting"])
def test_a_signal_during_the_start_stops_it(
    tmp_path: Path, serving: Callable[..., Serving], first: str
) -> None:
    before = runtime_directories()
    slow = tmp_path / "slow.toml"
    slow.write_text('[engine.environment]\nOMP_NUM_THREADS = "14"\n')  # it never gets ready
    server = serving("--model", str(make_model(tmp_path)), "--config", str(slow))
    server.until(first)
    server.process.send_signal(signal.SIGTERM)
    status, errors = server.end()
    assert (status, errors) == (0, "")
    assert "serving" not in [e["event"] for e in server.events]
    assert runtime_directories() <= before


def test_a_killed_supervisor_leaves_no_process_and_its_scratch_is_wiped(
    tmp_path: Path, serving: Callable[..., Serving]
) -> None:
    before = runtime_directories()
    model = str(make_model(tmp_path))
    server = serving("--model", model)
    server.until("serving")
    left = runtime_of(server.process.pid)
    assert len(alive(left)) >= 3
    server.process.kill()
    server.process.wait()
    deadline = time.monotonic() + 60
    while alive(left):
        assert time.monotonic() < deadline, "processes outlive their supervisor"
        time.sleep(0.05)
    again = serving("--model", model)
    again.until("serving")
    assert not Path(left).exists()
    again.process.terminate()
    assert again.end()[0] == 0
    assert runtime_directories() <= before


@pytest.mark.parametrize(
    ("arguments", "environment", "status", "says"),
    [
        ([], {}, 2, "no model: pass --model"),
        (["--model", "/nowhere"], {}, 2, "neither a directory nor a hub id"),
        (["--model", "{model}", "--name", "bad name"], {}, 2, "set one with --name"),
        (["--model", "{model}"], {"RLU_ENGINE__ARGUMENTS": "x"}, 2, "engine.arguments"),
        (["--model", "{model}"], {"RLU_NO_SUCH": "x"}, 2, "unknown environment variables: RLU_NO_SUCH"),
        (["--model", "{model}"], {"RLU_ENGINE__PYTHON": "/nowhere"}, 2, "no such program"),
        (["--model", "{model}"], {"RLU_ENGINE__PYTHON": "/bin/false"}, 3, "has no vLLM"),
        (
            ["--model", "{model}"],
            {"RLU_ATTESTATION__INSECURE_SOFTWARE_KEY": "false"},
            3,
            "no TPM at /dev/tpmrm0",
        ),
        (["--model", "{model}"], {"RLU_RUNTIME_DIR": "/usr"}, 3, "is not in memory"),
        (["--model", "{model}", "--host", "192.0.2.1", "--port", "9"], {}, 3, "choose another port"),
        (["--model", "{model}"], {"RLU_LOCK__MINIMUM_LANDLOCK_ABI": "99"}, 77, "Landlock ABI 99 is required"),
        (["--model", "{model}", "--config", "/nowhere.toml"], {}, 2, "cannot read /nowhere.toml"),
    ],
)
def test_refusals_say_what_to_do(
    tmp_path: Path,
    serving: Callable[..., Serving],
    arguments: list[str],
    environment: dict[str, str],
    status: int,
    says: str,
) -> None:
    before = runtime_directories()
    model = str(make_model(tmp_path))
    server = serving(*(a.format(model=model) for a in arguments), environment=environment)
    got, errors = server.end()
    assert says in " ".join(errors.split()), errors
    assert got == status
    assert "Traceback" not in errors
    assert runtime_directories() <= before


def test_a_model_with_pickles_refuses(tmp_path: Path, serving: Callable[..., Serving]) -> None:
    model = make_model(tmp_path)
    (model / "pytorch_model.bin").write_bytes(b"x")
    status, errors = serving("--model", str(model)).end()
    assert status == 2
    assert "the model cannot be served" in errors


@pytest.mark.tpm
def test_demo_once_and_again(tmp_path: Path) -> None:
    """With a real software TPM and the real verifier; only model and engine are stand-ins. Directory and key are kept."""
    place = tmp_path / "demo"
    place.mkdir()
    make_model(place).rename(place / "model")
    (place / "model" / "rlu-canary.json").write_text(
        '{"prompt": "hello", "expect": "This is what the stand-in always says."}'
    )
    environment = {
        name: value
        for name, value in ENVIRONMENT.items()
        if not name.startswith(("RLU_ATTESTATION", "RLU_MODEL"))
    }
    keys = set()
    for _ in range(2):
        command = [sys.executable, str(COMMAND), "demo", "--once", "--dir", str(place), "--port", "0"]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "VERIFIED EXCEPT FOR WAIVERS" in done.stdout
        assert "an emulated TPM is no hardware (exit code 11)" in done.stdout
        assert "total:" in done.stdout
        for needed in (
            "--cacert",
            "rlu clients codex https://localhost:",
            f"--ca-file {place / 'gateway.crt'}",
            "rlu connect https://localhost:",
        ):
            assert needed in done.stdout
        keys.add((place / "api-key").read_text())
        # The demo's model is signed when it is made, and the demo's verifier asks for that signer.
        assert "signed by the demo's key" in done.stdout
        assert "signers = [" in (place / "policy.toml").read_text()
        assert (place / "model" / "model.sig").is_file()
    assert len(keys) == 1
