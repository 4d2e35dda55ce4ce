"""Three roles as in a pod: each a process tree with a user and a mount namespace of its own, and a pod's volumes."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from deployment import make_key, make_model

from ports import free_port
from rlu_server.supervisor import alone

COMMAND = Path(__file__).with_name("command.py")
UIDS = {"attestor": 54331, "engine": 54332, "gateway": 54333}
GROUP = 54330
CONTAINER = """
set -e
run=$1 volumes=$2 uid=$3 gid=$4 own=$5 seen=$6 prefix=$7 closed=$8
shift 8
if [ -n "$closed" ]; then  # the interpreter is below a directory that others may not enter
    mount --bind "$prefix" "$run"
    mount -t tmpfs -o mode=755 none "$closed"
    mkdir -p "$prefix"
    mount --bind "$run" "$prefix"
    umount "$run"
fi
mount -t tmpfs -o mode=2777,gid=$gid none "$run"
for name in $own $seen; do mkdir "$run/$name"; mount --bind "$volumes/$name" "$run/$name"; done
for name in $seen; do mount -o remount,bind,ro "$run/$name"; done
exec setpriv --reuid $uid --regid $gid --clear-groups --bounding-set=-all --inh-caps=-all --no-new-privs "$@"
"""
"""What a container runtime does: a mount namespace with the volumes, and no privileges."""


def closed_above(prefix: Path) -> str:
    """The highest directory above that only its owner may enter."""
    closed = [place for place in (*reversed(prefix.parents), prefix) if not place.stat().st_mode & 1]
    return str(closed[0]) if closed else ""


class Alone:
    """One role as a child of ours, and what it says."""

    def __init__(self, role: alone.Role, pod: Pod) -> None:
        self.role, self._pod = role, pod
        self.events: list[dict[str, Any]] = []
        written = alone.written(role, ["engine"], sealed=True)
        own = [name for name in written if (pod.volumes / name).exists()]
        own += ["state"] if role == "attestor" else []
        seen = [name for name in alone.seen(role, ["engine"], sealed=True) if (pod.volumes / name).exists()]
        prefix = Path(sys.base_prefix).resolve()
        container = [
            pod.run,
            pod.volumes,
            UIDS[role],
            GROUP,
            " ".join(own),
            " ".join(seen),
            prefix,
            closed_above(prefix),
        ]
        command = [sys.executable, "-B", COMMAND, "serve", "--role", role, "--json", "--config", pod.config]
        unshare = ["unshare", "--mount", "--propagation", "private", "sh", "-c", CONTAINER, "sh"]
        self.process = subprocess.Popen(
            list(map(str, [*unshare, *container, *command])),
            env={"PATH": os.environ["PATH"], "HOME": "/", **pod.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.events.append(json.loads(line))

    def inside(self, path: Path) -> Path:
        """A path as this role sees it."""
        return Path(f"/proc/{self.process.pid}/root{path}")

    def said(self, name: str) -> list[float]:
        """When, by its own clock: this process may be late to read it."""
        return [event["time"] for event in self.events if event["event"] == name]

    def until(self, what: Callable[[], Any]) -> None:
        deadline = time.monotonic() + 120
        while not what():
            for one in self._pod.expected:
                assert one.process.poll() is None, (one.role, one.events, one.end())
            assert time.monotonic() < deadline, {one.role: one.events for one in self._pod.started}
            time.sleep(0.05)

    def end(self) -> tuple[int, str]:
        code = self.process.wait(timeout=120)
        self._reading.join()
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        errors = self.process.stderr.read()
        self.process.stdout.close()
        self.process.stderr.close()
        return code, errors


class Pod:
    """What the three share: settings, and directories as a pod's volumes give them to each."""

    def __init__(self, directory: Path, volumes: Path, broker: str = "") -> None:
        """With a broker the model is that of `sealed.broker_in` in the same directory."""
        self.run, self.volumes = directory / "run", volumes
        self.environment: dict[str, str] = {}
        self.started: list[Alone] = []
        self.expected: list[Alone] = []
        self.port = free_port()
        model = directory / "sealed" if broker else make_model(directory)
        self.api_key = make_key(directory)
        keys = directory / "keys.json"
        (directory / "state" / "apikeys.json").rename(keys)
        os.chown(keys, UIDS["gateway"], GROUP)
        self.run.mkdir()
        shared = ["weights"] if broker else []
        for name in ("attestor", "engine", "engine-facts", "gateway", "state", *shared):
            place = volumes / name
            place.mkdir()
            os.chown(place, 0, GROUP)
            place.chmod(0o2777)
        self.config = directory / "rlu.toml"
        self.config.write_text(
            f'state_dir = "{self.run / "state"}"\nruntime_dir = "{self.run}"\n'
            f'[model]\npath = "{model}"\nname = "m"\nsignature = "unsafe-optional"\n'
            f'[gateway]\nport = {self.port}\ndrain_timeout_s = 20.0\napi_keys_file = "{keys}"\n'
            "[attestation]\ninsecure_software_key = true\n"
            f'[weights]\nbroker = "{broker}"\n'
            "[lock.uids]\n" + "".join(f"{role} = {uid}\n" for role, uid in UIDS.items())
        )

    def start(self, role: alone.Role) -> Alone:
        self.started.append(Alone(role, self))
        self.expected = [*(one for one in self.expected if one.role != role), self.started[-1]]
        return self.started[-1]

    def call(self, method: str, path: str, body: object = None, session: str = "") -> tuple[int, Any]:
        context = ssl.create_default_context(cafile=str(self.volumes / "gateway" / "gateway.crt"))
        connection = http.client.HTTPSConnection("localhost", self.port, timeout=60, context=context)
        try:
            content = None if body is None else json.dumps(body)
            headers = {"Authorization": f"Bearer {self.api_key}", "Content-Type": "application/json"}
            connection.request(
                method, path, content, {**headers, **({"RLU-Session": session} if session else {})}
            )
            response = connection.getresponse()
            return response.status, json.loads(response.read() or "null")
        finally:
            connection.close()

    def ask(self, session: str) -> int:
        body = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
        return self.call("POST", "/v1/chat/completions", body, session)[0]


@contextlib.contextmanager
def directories() -> Iterator[tuple[Path, Path]]:
    """For settings and state, and for the volumes, which are in memory; whoever knows the name may enter."""
    with (
        tempfile.TemporaryDirectory(prefix="rlu-alone-") as directory,
        tempfile.TemporaryDirectory(prefix="rlu-alone-", dir="/dev/shm") as volumes,
    ):
        Path(directory).chmod(0o711)
        Path(volumes).chmod(0o711)
        yield Path(directory), Path(volumes)


@contextlib.contextmanager
def pod_in(directory: Path, volumes: Path, broker: str = "") -> Iterator[Pod]:
    made = Pod(directory, volumes, broker)
    try:
        yield made
    finally:
        for one in made.started:
            if one.process.poll() is None:
                one.process.kill()
            if one.process.stdout is not None and not one.process.stdout.closed:
                one.end()
