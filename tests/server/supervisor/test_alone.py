"""`rlu serve --role`: each of the three alone, as a user of its own, with a pod's volumes and without privileges."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from deployment import make_key, make_model

from rlu_server import settings as configuration
from rlu_server.settings import Settings
from rlu_server.supervisor import alone, prepare, runtime
from rlu_server.supervisor.errors import Misconfigured, Unavailable

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
        own = [name for name in alone.written(role, ["engine"]) if (pod.volumes / name).exists()]
        own += ["state"] if role == "attestor" else []
        seen = [name for name in alone.seen(role, ["engine"]) if (pod.volumes / name).exists()]
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
            env={"PATH": os.environ["PATH"], "HOME": "/"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
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

    def __init__(self, directory: Path, volumes: Path) -> None:
        self.run, self.volumes = directory / "run", volumes
        self.started: list[Alone] = []
        self.expected: list[Alone] = []
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        make_model(directory)
        self.api_key = make_key(directory)
        keys = directory / "keys.json"
        (directory / "state" / "apikeys.json").rename(keys)
        os.chown(keys, UIDS["gateway"], GROUP)
        self.run.mkdir()
        for name in ("attestor", "engine", "engine-facts", "gateway", "state"):
            place = volumes / name
            place.mkdir()
            os.chown(place, 0, GROUP)
            place.chmod(0o2777)
        self.config = directory / "rlu.toml"
        self.config.write_text(
            f'state_dir = "{self.run / "state"}"\nruntime_dir = "{self.run}"\n'
            f'[model]\npath = "{directory / "m"}"\nname = "m"\nsignature = "unsafe-optional"\n'
            f'[gateway]\nport = {self.port}\ndrain_timeout_s = 20.0\napi_keys_file = "{keys}"\n'
            "[attestation]\ninsecure_software_key = true\n"
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


@pytest.fixture
def pod() -> Iterator[Pod]:
    with (
        tempfile.TemporaryDirectory(prefix="rlu-alone-") as directory,
        tempfile.TemporaryDirectory(prefix="rlu-alone-", dir="/dev/shm") as volumes,
    ):
        Path(directory).chmod(0o711)
        Path(volumes).chmod(0o711)
        made = Pod(Path(directory), Path(volumes))
        yield made
        for one in made.started:
            if one.process.poll() is None:
                one.process.kill()
            if one.process.stdout is not None and not one.process.stdout.closed:
                one.end()


def test_three_roles_serve_restart_and_end_in_order(pod: Pod) -> None:
    gateway, attestor = pod.start("gateway"), pod.start("attestor")
    gateway.until(lambda: gateway.said("gateway.ready"))
    attestor.until(lambda: attestor.said("waiting_for_engine"))
    assert not attestor.said("attestor.starting"), "nothing is stated of an engine that nobody measured"
    assert pod.call("GET", "/readyz")[0] == 503
    engine = pod.start("engine")
    gateway.until(lambda: gateway.said("serving"))

    status, opened = pod.call("POST", "/v1/rlu/sessions", {"nonce": "A" * 43})
    assert status == 201, opened
    session = opened["session"]
    assert pod.ask(session) == 200
    postures = {
        "attestor": json.loads(attestor.inside(pod.run / "facts" / "attestor.json").read_text()),
        "engine": json.loads((pod.volumes / "engine-facts" / "engines.json").read_text())["posture"],
    }
    for role, posture in postures.items():
        assert (posture["uid"], posture["uid_shared"]) == (UIDS[role], False)
    stated = attestor.inside(pod.run / "facts" / "engine.json")
    assert json.loads(stated.read_text()) == postures["engine"]
    assert gateway.inside(pod.run / "attestor" / "attestor.sock").is_socket()
    assert not engine.inside(pod.run / "attestor").exists()

    # One container alone is killed and comes back: same instance, same session.
    engine.process.kill()
    assert engine.end()[0] == -signal.SIGKILL
    engine = pod.start("engine")
    engine.until(lambda: engine.said("engine.ready"))
    engine.until(lambda: pod.ask(session) == 200)
    assert not attestor.said("instance.changed")

    # All are told to end, and those first that must be last.
    for one in (attestor, engine):
        one.process.send_signal(signal.SIGTERM)
        one.until(lambda one=one: one.said("draining"))
    assert pod.ask(session) == 200, "while the gateway serves, so do the others"
    gateway.process.send_signal(signal.SIGTERM)
    ended = {one.role: one.end() for one in (gateway, engine, attestor)}
    assert ended == dict.fromkeys(UIDS, (0, ""))
    [drained] = gateway.said("gateway.stopped")
    assert drained <= min(*attestor.said("attestor.stopped"), *engine.said("engine.stopped"))
    assert not gateway.said("receipt_lost")
    shutil.rmtree(pod.volumes / "state")
    assert [path for path in pod.volumes.rglob("*") if not path.is_dir()] == []


def test_a_role_says_what_it_lacks(pod: Pod) -> None:
    (pod.volumes / "attestor").rmdir()
    code, errors = pod.start("gateway").end()
    assert code == Unavailable.exit_code
    assert "attestor is not there" in errors
    (pod.volumes / "engine-facts").chmod(0o755)
    code, errors = pod.start("engine").end()
    assert code == Unavailable.exit_code
    assert "engine-facts is not ours to write" in errors


def settings(pod: Pod, **changes: object) -> Settings:
    return configuration.load(pod.config, {}, changes)


def test_a_role_runs_as_its_user(pod: Pod) -> None:
    place = runtime.share(pod.volumes, "facts")
    with pytest.raises(Misconfigured, match=r"\[lock.uids\] engine = 54332, and this is user 0"):
        prepare.deployment(settings(pod), place, {}, None, "engine")


def test_one_role_fetches_no_model(pod: Pod) -> None:
    given = settings(pod, lock={"uids": None}, model={"path": "owner/name"})
    place = runtime.share(pod.volumes, "facts")
    with pytest.raises(Misconfigured, match="owner/name is no directory here"):
        prepare.deployment(given, place, {}, None, "engine")
    for role in ("attestor", "gateway"):
        assert prepare.deployment(given, place, {}, None, role).served == ()


def test_one_role_needs_a_directory_in_memory(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="RLU_RUNTIME_DIR"):
        runtime.share(None, "facts")
    with pytest.raises(Unavailable, match="not in memory"):
        runtime.share(tmp_path, "facts")


def test_what_an_engine_states_has_one_form(tmp_path: Path) -> None:
    digest = "A" * 43
    served = {
        "model": {"name": "m", "manifest_sha256": digest},
        "engine": {"name": "vllm", "version": "1", "arguments_sha256": digest},
    }
    good = {"served": [served], "posture": {"network": "loopback"}}
    file = tmp_path / "engines.json"
    assert alone.read_engine_facts(file) is None
    file.write_text(json.dumps(good))
    found = alone.read_engine_facts(file)
    assert found is not None
    assert found.posture == {"network": "loopback"}
    for bad in (
        {**good, "region": "elsewhere"},
        {**good, "served": []},
        {**good, "served": [{**served, "hardware": {"profile": "h200x8"}}]},
        {**good, "posture": {"x": ["nested"]}},
        {**good, "posture": {f"p{number}": "x" * 200 for number in range(1000)}},
    ):
        file.write_text(json.dumps(bad))
        assert alone.read_engine_facts(file) is None, bad


def test_two_gateways_do_not_share_a_directory(tmp_path: Path) -> None:
    lock = tmp_path / "serving.lock"
    assert not alone._is_held(lock)
    handle = alone._hold(lock)
    try:
        assert alone._is_held(lock)
        with pytest.raises(Unavailable, match="another gateway"):
            alone._hold(lock)
    finally:
        os.close(handle)
    assert not alone._is_held(lock)
