"""What is seen of a deployment on this machine, and what is said of it: made-up states, files as operators break them, real servers."""

from __future__ import annotations

import base64
import http.client
import io
import json
import os
import ssl
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from fakes.terminal import rlu
from rlu_server.cli import doctor as module
from rlu_server.core.errors import CATALOGUE
from rlu_server.doctor.judge_deployment import DAY_S, judge_deployment
from rlu_server.doctor.look_deployment import look, read_readiness
from rlu_server.doctor.seen import Gateway, Problem, Runtime, Seen, State
from rlu_server.doctor.words import GROUPS
from rlu_server.engine import launch
from rlu_server.preflight.findings import Finding

Capture = pytest.CaptureFixture[str]
NOW = 1_800_000_000
MARK = "zqxmarkerqz"
COMMAND = Path(__file__).parents[1] / "supervisor" / "command.py"
SOCKETS = frozenset({"attestor/attestor.sock", "engine/engine.sock"})
WELL = Seen(
    now=NOW,
    state=State(
        present=True, usable=True, free=1 << 40, running=True, hardware=True, enrolled_until=NOW + 400 * DAY_S
    ),
    files=(("API keys", None),),
    runtime=Runtime(found=True, sockets=SOCKETS, engines=("engine",), postures={"engine": {"swap": "off"}}),
    gateway=Gateway(ready=True),
)


def severities(found: list[Finding]) -> dict[str, str]:
    return {one.id: one.severity.value for one in found}


def changed(**parts: dict[str, Any]) -> dict[str, str]:
    """Severities where one thing is otherwise: `part=dict(of its changes)`."""
    made = {
        name: changes if name in ("settings", "files", "unsafe") else replace(getattr(WELL, name), **changes)
        for name, changes in parts.items()
    }
    return severities(judge_deployment(replace(WELL, **made)))


def test_a_deployment_that_is_well() -> None:
    assert set(severities(judge_deployment(WELL)).values()) == {"ok"}


CHANGES: list[tuple[dict[str, Any], str, str]] = [
    ({"settings": Problem("serve.settings", "no")}, "serve.settings", "error"),
    ({"unsafe": ("[lock] unsafe_allow_swap",)}, "deployment.unsafe", "warning"),
    ({"state": {"present": False}}, "deployment.state", "info"),
    ({"state": {"usable": False}}, "deployment.state", "warning"),
    ({"state": {"free": 1 << 20}}, "deployment.disk", "error"),
    ({"state": {"free": 1 << 30}}, "deployment.disk", "warning"),
    ({"state": {"enrolled_until": None}}, "enrolment.missing", "error"),
    ({"state": {"enrolled_until": NOW}}, "deployment.enrolment", "error"),
    ({"state": {"enrolled_until": NOW + 29 * DAY_S}}, "deployment.enrolment", "warning"),
    ({"state": {"enrolled_until": NOW + 31 * DAY_S}}, "deployment.enrolment", "ok"),
    ({"state": {"due": NOW}}, "key.rotation_due", "warning"),
    ({"state": {"collateral_over": 1}}, "deployment.collateral", "warning"),
    ({"state": {"running": False}}, "deployment.attestor", "error"),
    ({"state": {"problems": (Problem("log.damaged", "byte 7"),)}}, "log.damaged", "error"),
    ({"files": (("API keys", Problem("apikeys.file", "no")),)}, "apikeys.file", "error"),
    ({"runtime": {"sockets": frozenset()}}, "deployment.engine", "error"),
    ({"runtime": {"sockets": frozenset({"engine/starting.sock"})}}, "deployment.engine", "info"),
    ({"runtime": {"postures": {"gateway": {"uid_shared": True}}}}, "deployment.posture", "info"),
    ({"runtime": {"postures": {"engine": {"runs": "exec"}}}}, "deployment.posture", "info"),
    ({"gateway": {"ready": False, "refused": True}}, "deployment.gateway", "error"),
    ({"gateway": {"ready": False, "failure": "TLS"}}, "deployment.gateway", "error"),
    ({"gateway": {"ready": False, "reasons": ("quark",)}}, "deployment.gateway", "error"),
]


@pytest.mark.parametrize(("parts", "id_", "severity"), CHANGES)
def test_one_thing_is_otherwise(parts: dict[str, Any], id_: str, severity: str) -> None:
    assert changed(**parts)[id_] == severity


def test_where_no_server_runs() -> None:
    none = replace(WELL, runtime=Runtime(found=False))
    stopped = State(present=True, usable=True, free=1 << 40, running=False)
    quiet = replace(none, state=stopped, gateway=Gateway(refused=True))
    assert severities(judge_deployment(quiet))["deployment.runtime"] == "error"
    assert "deployment.gateway" not in severities(judge_deployment(quiet))
    hidden = replace(none, gateway=Gateway(refused=True))
    assert severities(judge_deployment(hidden))["deployment.runtime"] == "warning"
    assert severities(judge_deployment(none))["deployment.runtime"] == "warning"
    other = replace(quiet, gateway=Gateway(failure="TLS: wrong version"))
    assert severities(judge_deployment(other))["deployment.port"] == "error"


@pytest.mark.parametrize("code", sorted(CATALOGUE))
def test_every_reason_of_readiness_has_its_remedy(code: str) -> None:
    found = judge_deployment(replace(WELL, gateway=Gateway(reasons=(code,))))
    (one,) = [finding for finding in found if finding.severity.value == "error"]
    assert (one.id, bool(one.remedy)) == (code, True)


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[]", b"<html>", b'{"ready": true, "reasons": 5}', b'{"ready": false, "reasons": [1]}'],
)
def test_what_is_no_readiness(data: bytes) -> None:
    assert read_readiness(data).failure


def test_readiness() -> None:
    assert read_readiness(b'{"ready": true, "reasons": []}') == Gateway(ready=True)
    made = read_readiness(b'{"ready": false, "reasons": [{"code": "draining", "detail": "x"}]}')
    assert made == Gateway(reasons=("draining",))


def test_every_finding_about_a_deployment_has_its_text() -> None:
    """In the module's own calls, against `words`."""
    import re

    from rlu_server.doctor import judge_deployment as judges

    text = Path(judges.__file__).read_text("utf-8")
    made = set(re.findall(r'"(deployment\.\w+)"', text))
    (words,) = [group.texts for group in GROUPS if "deployment.runtime" in group.texts]
    assert made == set(words)


# --- files, as operators break them ----------------------------------------------------------------------------------


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    monkeypatch.setattr(launch, "engine_version", lambda python, ours: "0.32.0")
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.sig").write_text("{}")
    (tmp_path / "state").mkdir()

    def write(text: str = "", port: int = 0) -> Path:
        path = tmp_path / "rlu.toml"
        path.write_text(
            f'state_dir = "{tmp_path / "state"}"\n[gateway]\nport = {port}\ndrain_timeout_s = 2\n'
            f'[attestation]\ninsecure_software_key = true\n[model]\npath = "{model}"\n{text}'
        )
        return path

    return write


def ids(path: Path) -> dict[str, str]:
    seen, _ = look(path, int(time.time()))
    return severities(judge_deployment(seen))


def test_settings_that_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rlu.toml"
    path.write_text("[model]\nnmae = 1\n")
    seen, settings = look(path, NOW)
    assert settings is None
    (one,) = judge_deployment(seen)
    assert (one.id, "nmae" in one.found) == ("serve.settings", True)
    assert ids(tmp_path / "none.toml") == {"serve.settings": "error"}


def test_nothing_is_wrong_but_that_no_server_runs(config: Callable[..., Path]) -> None:
    found = ids(config())
    assert {id_ for id_, severity in found.items() if severity == "error"} == {"deployment.runtime"}


def test_files_that_cannot_be_used(config: Callable[..., Path], tmp_path: Path) -> None:
    state = tmp_path / "state"
    (state / "apikeys.json").write_text("{}")
    (state / "limits.toml").write_text("[tenants.a]\nrequests = -1\n")
    (tmp_path / "set.json").write_text('{"keys": []}')
    (tmp_path / "ca.pem").write_text("no certificate")
    (tmp_path / "vendor.pem").write_text("no key")
    (tmp_path / "licence.jws").write_text("no licence")
    text = (
        f'[licence]\nfile = "{tmp_path / "licence.jws"}"\nvendor_keys = ["{tmp_path / "vendor.pem"}"]\n'
        f'[[auth.issuers]]\nname = "i"\nissuer = "https://i"\naudience = ["a"]\ntenant = "t"\n'
        f'jwks_file = "{tmp_path / "set.json"}"\n'
        f'[auth.certificates]\nmode = "optional"\nca_file = "{tmp_path / "ca.pem"}"\n'
        '[[auth.certificates.rules]]\nsource = "dns"\npattern = "{principal}"\ntenant = "t"\n'
    )
    found = ids(config(text))
    assert {"apikeys.file", "limits.file", "jwks.empty", "auth.ca", "policy.key"} <= {
        id_ for id_, severity in found.items() if severity == "error"
    }


def test_a_model_that_is_not_there_or_not_signed(config: Callable[..., Path], tmp_path: Path) -> None:
    path = config()
    (tmp_path / "model" / "model.sig").unlink()
    assert ids(path)["model.signature.absent"] == "error"
    (tmp_path / "model" / "config.json").unlink()
    assert ids(path)["model.empty"] == "error"
    (tmp_path / "model").rmdir()
    assert ids(path)["model.directory"] == "error"


def test_collateral_that_is_over(config: Callable[..., Path], tmp_path: Path) -> None:
    from fakes import amd, intel

    place = tmp_path / "state" / "collateral"
    for kind in ("sev-snp", "tdx"):
        (place / kind).mkdir(parents=True)
    (place / "sev-snp" / "old.crl").write_bytes(amd.ark("Milan").revoke())
    (place / "tdx" / "collateral.json").write_bytes(intel.parts(intel.Platform(), bytes(64)).pccs())
    (place / "tdx" / "other.json").write_text("{}")
    seen, _ = look(config(), 4_000_000_000)  # after the year 2096
    assert seen.state is not None
    assert seen.state.collateral_over == 2


def test_what_a_start_would_refuse(config: Callable[..., Path]) -> None:
    path = config('[engine]\narguments = ["--enable-log-requests"]\n')
    seen, _ = look(path, NOW)
    (refused,) = [one for one in judge_deployment(seen) if one.id == "serve.misconfigured"]
    assert "--enable-log-requests: it writes prompts" in refused.found
    assert "\n" not in refused.found


def test_another_program_has_the_port(config: Callable[..., Path]) -> None:
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Other)
    path = config(port=server.server_address[1])
    thread = threading.Thread(target=lambda: server.serve_forever(0.02), daemon=True)
    thread.start()
    try:
        assert ids(path)["deployment.port"] == "error"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


# --- real servers ----------------------------------------------------------------------------------------------------


@contextmanager
def serving(config: Path, events: Path) -> Iterator[subprocess.Popen[str]]:
    """`rlu serve` with the scripted engine in vLLM's place; its events go to a file."""
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    with events.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, str(COMMAND), "serve", "--config", str(config)],
            env={**environment, "RLU_MODEL__SIGNATURE": "unsafe-optional"},
            stdout=out,
            stderr=subprocess.DEVNULL,
            text=True,
            process_group=0,
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def until(what: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not what():
        assert time.monotonic() < end, "it did not come to this"
        time.sleep(0.05)


def last(events: Path, name: str) -> bool:
    """In the lines that are complete: the server may be writing one."""
    lines = events.read_bytes().rpartition(b"\n")[0].splitlines()
    return any(json.loads(line).get("event") == name for line in lines)


def test_a_server_that_serves_and_then_has_no_signer(
    capsys: Capture, config: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command, on this machine: all is well; the attestor is stopped by its pid's end, and what follows is told with its remedy."""
    monkeypatch.setattr(module, "_of_node", lambda settings, whole: [])
    path, events = config('name = "m"\n'), tmp_path / "events.jsonl"
    (tmp_path / "model" / "config.json").write_text('{"model_type": "qwen3"}')
    (tmp_path / "model" / "model.safetensors").write_bytes(b"weights")
    keys = tmp_path / "state" / "apikeys.json"
    made = rlu(capsys, "apikeys", "create", "--file", keys, "--tenant", MARK, "--principal", MARK, "--json")
    with serving(path, events) as process:
        until(lambda: last(events, "serving") or process.poll() is not None)
        ask(events, made.json["key"])
        until(lambda: "error" not in ids(path).values())
        ran = rlu(capsys, "doctor", "--config", path, "--events", events, "--all", "--json")
        found = {one["id"]: one["severity"] for one in ran.json["findings"]}
        assert "error" not in found.values(), (found, events.read_text())
        assert (
            found["deployment.gateway"] == found["deployment.engine"] == found["deployment.runtime"] == "ok"
        )
        assert found["deployment.unsafe"] == "warning"  # a software key
        bundle = tmp_path / "support.tar"
        assert rlu(capsys, "doctor", "--config", path, "--bundle", bundle, "--yes").code == 40
        assert bundle.stat().st_mode & 0o777 == 0o600
        holds_no_content(bundle.read_bytes(), made.json["key"], tmp_path)
        process.send_signal(19)  # SIGSTOP: nothing is started again
        try:
            attestor = next(pid for pid in children(process.pid) if b"rlu_server.attestor" in command_of(pid))
            os.kill(attestor, 9)
            until(lambda: "signer_unavailable" in ids(path))
            now = ids(path)
            assert now["signer_unavailable"] == "error"
            assert now["deployment.attestor"] == "error"
        finally:
            process.send_signal(18)
    gone = ids(path)
    assert gone["deployment.runtime"] == "error"
    assert "signer_unavailable" not in gone


def ask(events: Path, key: str) -> None:
    """A prompt with a marker, which the scripted engine answers."""
    (served,) = [line for line in events.read_bytes().splitlines() if b'"serving"' in line]
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    port = json.loads(served)["port"]
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=60, context=context)
    try:
        body = {"model": "m", "messages": [{"role": "user", "content": f"say {MARK}"}], "user": MARK}
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        response = connection.getresponse()
        response.read()
        assert response.status == 200
    finally:
        connection.close()


def holds_no_content(data: bytes, key: str, directory: Path) -> None:
    """Neither prompt, tenant, key nor path; but the request was counted."""
    for text in (MARK, key, key[-20:], str(directory)):
        assert text.encode() not in data
        assert base64.b64encode(text.encode())[:12] not in data
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        member = archive.extractfile("rlu-support/metrics.json")
        assert member is not None
        metrics = json.load(member)
        heads = json.load(archive.extractfile("rlu-support/log_heads.json"))  # type: ignore[arg-type]
    assert metrics["rlu_requests_total"]["route=/v1/chat/completions,status=200"] == 1
    assert [head["in_use"] for head in heads] == [True]
    assert heads[0]["signed"]


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def command_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def test_a_server_that_does_not_start_says_why(
    capsys: Capture, config: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A TPM is named, and was never enrolled: the attestor's own code is in what `rlu serve` wrote."""
    monkeypatch.setattr(module, "_of_node", lambda settings, whole: [])
    path, events = config(), tmp_path / "events.jsonl"
    text = path.read_text().replace("insecure_software_key = true", 'tcti = "swtpm:host=127.0.0.1,port=1"')
    path.write_text(text)
    (tmp_path / "model" / "config.json").write_text('{"model_type": "qwen3"}')
    (tmp_path / "model" / "model.safetensors").write_bytes(b"weights")
    with serving(path, events) as process:
        until(lambda: process.poll() is not None)
    ran = rlu(capsys, "doctor", "--config", path, "--events", events, "--json")
    assert ran.code == 41
    said = [one for one in ran.json["findings"] if one["id"] == "enrolment.missing"]
    assert [one["severity"] for one in said] == ["error", "error"]  # by the files, and by the events
    assert any(one["found"].startswith("attestor.refused_to_start, enrolment.missing: ") for one in said)
    assert all("rlu keys register" in one["remedy"] for one in said)
    assert "serve.start_failed" in {one["id"] for one in ran.json["findings"]}
