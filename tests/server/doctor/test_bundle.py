"""The support bundle holds nothing of anybody's: markers in every text that reaches it, and none comes out, in any form."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fakes.terminal import rlu
from rlu_server.adapters.measures import OTHER
from rlu_server.cli import doctor as module
from rlu_server.doctor import bundle
from rlu_server.doctor.bundle import POSTURE, Head, compose, pack
from rlu_server.doctor.telling import Told
from rlu_server.preflight.findings import Finding, error, info
from rlu_server.settings import Settings, load

Capture = pytest.CaptureFixture[str]
ROOT = Path(__file__).resolve().parents[3]
MARK = "zqxmarkerqz"
AT = 1_800_000_000


def marked(directory: Path) -> Settings:
    """Settings in which every text is a marker, where the settings take any text."""
    texts: dict[str, Any] = {
        "state_dir": str(directory / MARK),
        "runtime_dir": f"/dev/shm/{MARK}",
        "deployment": {"region": MARK, "boundary": MARK, "site": MARK, "hardware_profile": MARK},
        "attestation": {"tcti": f"device:/dev/{MARK}", "key_path": f"/{MARK}", "policy": f"/{MARK}.toml"},
        "gateway": {"hostnames": [MARK], "api_keys_file": f"/{MARK}.json"},
        "model": {
            "path": f"/models/{MARK}",
            "name": MARK,
            "aliases": {f"a-{MARK}": MARK},
            "signers": [f"/{MARK}.pem"],
        },
        "engine": {
            "python": f"/{MARK}/python",
            "arguments": ["--max-model-len", "4096", f"--{MARK}", f"--tool-call-parser={MARK}", MARK],
            "environment": {f"{MARK.upper()}": MARK},
            "devices": [MARK],
        },
        "further_engines": [{"path": f"/models/{MARK}2", "name": f"{MARK}2"}],
        "auth": {
            "administrators": [f"{MARK}/{MARK}"],
            "issuers": [
                {
                    "name": "i",
                    "issuer": f"https://{MARK}",
                    "audience": [MARK],
                    "tenant": MARK,
                    "jwks_file": f"/{MARK}.json",
                    "required": {MARK: MARK},
                }
            ],
        },
        "log": {"exporter": f"{MARK}/{MARK}", "witnesses": [MARK]},
        "licence": {"file": f"/{MARK}", "vendor_keys": [f"/{MARK}"], "validation_url": f"https://{MARK}"},
        "telemetry": {"url": f"https://{MARK}", "key": f"/{MARK}", "proxy": f"http://{MARK}:1"},
    }
    return load(None, {}, texts)


def marked_parts(settings: Settings | None) -> tuple[bundle.Part, ...]:
    told = Told()
    told.read(
        [
            f"a prompt with {MARK}".encode(),
            json.dumps({"event": MARK, "level": "error", "code": MARK}).encode(),
            json.dumps({"event": "signer.failed", "level": "error", "code": MARK, "text": MARK}).encode(),
            json.dumps({"event": "log.write_failed", "level": "error", "code": "errno.28"}).encode(),
            json.dumps(
                {"event": "request_refused", "level": "warning", "code": "key_invalid", "id": MARK}
            ).encode(),
            json.dumps({"event": "token_key_unknown", "level": "warning", "code": MARK}).encode(),
        ]
    )
    metrics = f"""# TYPE rlu_requests_total counter
rlu_requests_total{{route="/v1/messages",status="200"}} 3.0
rlu_requests_total{{route="{MARK} text",status="200"}} 1.0
# TYPE rlu_tenant_tokens_total counter
rlu_tenant_tokens_total{{tenant="{MARK}",kind="input"}} 5.0
rlu_tenant_tokens_total{{tenant="{OTHER}",kind="input"}} 2.0
# TYPE rlu_engine_running gauge
rlu_engine_running{{engine="engine",model="{MARK}"}} 1.0
# TYPE other_{MARK} gauge
other_{MARK}{{a="{MARK}"}} 1.0
"""
    return compose(
        at=AT,
        versions={"rlu": "0.1.0"},
        settings=settings,
        findings=[
            error("model.directory", f"/{MARK} is no directory", f"give {MARK}"),
            error("signer_unavailable", MARK, MARK),
            error("command.missing_extra", MARK, MARK),
            Finding(MARK, error("a", "b", "c").severity, MARK, MARK),
            info("kernel.landlock", "Landlock ABI 7"),
        ],
        told=told,
        postures={
            "engine": {"swap": "off", "uid": 10003, MARK: True, "profile": f"/{MARK}", "uid_shared": False},
            MARK: {"swap": "off"},
        },
        facts={
            "model": {
                "name": MARK,
                "manifest_sha256": MARK,
                "signature": {"result": "verified", "signer": MARK},
            },
            "engine": {"name": MARK, "version": "0.32.0", "arguments_sha256": MARK},
            "further_models": [
                {"model": {"name": MARK, "signature": {"result": MARK}}, "engine": {"version": MARK}},
                MARK,
            ],
            "hardware": {"profile": MARK},
            "region": MARK,
            MARK: MARK,
        },
        metrics=metrics.encode(),
        heads=[Head("k" * 43, 12, in_use=True)],
    )


def forms(text: str) -> list[bytes]:
    raw = text.encode()
    return [
        raw,
        raw.upper(),
        raw[::-1],
        raw.hex().encode(),
        *(base64.b64encode(b"." * lead + raw)[4:-4] for lead in range(3)),
        hashlib.sha256(raw).hexdigest()[:16].encode(),
        hashlib.sha256(raw).digest(),
        "".join(f"\\u{ord(c):04x}" for c in text).encode(),
    ]


def test_no_marker_comes_out(tmp_path: Path) -> None:
    settings = marked(tmp_path)
    assert settings.model_dump_json().count(MARK) > 30
    data = pack(marked_parts(settings), AT)
    assert [form for form in forms(MARK) if form in data] == []
    assert str(tmp_path).encode() not in data


def test_what_is_kept(tmp_path: Path) -> None:
    parts = {part.name: json.loads(part.content) for part in marked_parts(marked(tmp_path))}
    settings = parts["settings.json"]
    assert settings["attestation"]["key"] == "tpm2"
    assert settings["attestation"]["tcti"] == settings["model"]["path"] == "(set)"
    assert settings["gateway"]["port"] == 8443
    assert settings["engine"]["arguments"] == {
        "entries": 5,
        "flags": ["--max-model-len", "--tool-call-parser"],
    }
    assert settings["engine"]["environment"] == {"entries": 1}
    assert settings["attestation"]["pcrs"] == list(range(8))
    assert settings["lock"]["uids"] is None
    assert settings["metrics"]["listen"] == "(set)"
    assert parts["findings.json"] == [
        {"id": "model.directory", "severity": "error"},
        {"id": "signer_unavailable", "severity": "error"},
        {"id": "command.missing_extra", "severity": "error"},
        {"id": "other", "severity": "error"},
        {"id": "kernel.landlock", "severity": "info", "found": "Landlock ABI 7"},
    ]
    events = {(one["event"], one["code"]): one["count"] for one in parts["events.json"]["events"]}
    assert events == {
        ("other", "other"): 1,
        ("signer.failed", "other"): 1,
        ("log.write_failed", "errno.28"): 1,
        ("request_refused", "key_invalid"): 1,
        ("token_key_unknown", "other"): 1,
    }
    assert (parts["events.json"]["lines"], parts["events.json"]["others"]) == (6, 1)
    assert parts["postures.json"] == {
        "engine": {"profile": "other", "swap": "off", "uid": 10003, "uid_shared": False}
    }
    assert parts["metrics.json"] == {
        "rlu_engine_running": {"engine=engine": 1.0},
        "rlu_requests_total": {"route=/v1/messages,status=200": 3.0, "route=other,status=200": 1.0},
        "rlu_tenant_tokens_total": {"kind=input": 7.0},
    }
    assert parts["log_heads.json"] == [{"entries": 12, "in_use": True, "instance": "k" * 43, "signed": ""}]
    assert parts["facts.json"] == {
        "profile": "other",
        "models": [
            {"engine": "0.32.0", "signature": "verified"},
            {"engine": "other", "signature": "other"},
        ],
    }
    assert set(parts["about.json"]["files"]) == set(parts) - {"about.json"}


def test_the_same_parts_are_the_same_bytes(tmp_path: Path) -> None:
    parts = marked_parts(None)
    assert pack(parts, AT) == pack(parts, AT)
    with tarfile.open(fileobj=io.BytesIO(pack(parts, AT))) as archive:
        names = archive.getnames()
        assert {member.mode for member in archive} == {0o600}
    assert names == [f"rlu-support/{part.name}" for part in parts]


@given(st.text(min_size=8, alphabet=st.characters(blacklist_categories=["Cs"])))
def test_no_text_of_a_log_comes_out(text: str) -> None:
    """Whatever stands in a line: only names of ours come out, and this is none of them."""
    assume(not bundle._ours(text))
    told = Told()
    told.read(
        [json.dumps({"event": text, "code": text, "level": text, "status": text}).encode(), text.encode()]
    )
    parts = compose(
        at=AT,
        versions={},
        settings=None,
        findings=[],
        told=told,
        postures={},
        facts={},
        metrics=b"",
        heads=[],
    )
    (events,) = [json.loads(part.content) for part in parts if part.name == "events.json"]
    assert all(one["event"] == "other" for one in events["events"])


def test_the_names_of_postures_are_the_locks() -> None:
    code = "import json; from rlu_server.lock import rlu_lock; print(json.dumps(sorted(rlu_lock.probe())))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    measured = set(json.loads(ran.stdout.splitlines()[-1]))
    assert measured | {"uid_shared"} == POSTURE
    table = (
        (ROOT / "server/DESIGN.md").read_text("utf-8").partition("### Posture")[2].partition("Version 2")[0]
    )
    named = {
        name
        for line in table.splitlines()
        for name in re.findall(r"`([a-z_]+)`", line.split("|")[1] if "|" in line else "")
    }
    assert named | {"memory_locked"} >= POSTURE


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "rlu.toml"
    path.write_text(
        f'state_dir = "{tmp_path / MARK}"\n[gateway]\nport = 0\n[deployment]\nregion = "{MARK}"\n'
        f'[model]\npath = "/models/{MARK}"\n'
    )
    return path


def test_it_is_listed_before_it_is_written(capsys: Capture, config: Path, tmp_path: Path) -> None:
    place = tmp_path / "support.tar"
    ran = rlu(capsys, "doctor", "--config", config, "--bundle", place, "--yes")
    assert ran.code == 41
    listed = ran.out.partition("holds, and nothing else:")[2]
    with tarfile.open(place) as archive:
        sizes = {member.name.removeprefix("rlu-support/"): member.size for member in archive}
    for name, size in sizes.items():
        assert re.search(rf"^  {re.escape(name)} +{size} bytes  \w", listed, re.MULTILINE), name
    assert place.stat().st_mode & 0o777 == 0o600
    data = place.read_bytes()
    assert [form for form in forms(MARK) if form in data] == []
    again = rlu(capsys, "doctor", "--config", config, "--bundle", place, "--yes")
    assert (again.code, "file.exists" in again.err) == (2, True)


def test_who_says_no_gets_none(
    capsys: Capture, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "support.tar"
    monkeypatch.setattr(module.sys, "stdin", io.StringIO("n\n"))
    monkeypatch.setattr(module.sys.stdin, "isatty", lambda: True)
    ran = rlu(capsys, "doctor", "--config", config, "--bundle", place)
    assert ran.code == 2
    assert "versions.json" in ran.out
    assert not place.exists()


def test_as_json(capsys: Capture, config: Path, tmp_path: Path) -> None:
    place = tmp_path / "support.tar"
    ran = rlu(capsys, "doctor", "--config", config, "--bundle", place, "--json")
    assert ran.json["bundle"] == str(place)
    assert ran.json["parts"] == [part.name for part in marked_parts(None)]
    assert place.exists()
