"""`rlu clients`: what it prints, what it writes, and that it asks first."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, get_args

import pytest
import tomllib

from fakes.terminal import rlu
from rlu_attestation.cli import clients as command
from rlu_attestation.clients import CLIENTS

URL = "https://rlu.example:8443"
KEY = f"rlu_{'a' * 16}_{'b' * 43}"
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user with nothing set up."""
    for name in ("CODEX_HOME", "CLAUDE_CONFIG_DIR", "XDG_CONFIG_HOME", "ANTHROPIC_API_KEY", "RLU_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_clients_are_those_of_the_table() -> None:
    assert get_args(command.Name) == tuple(CLIENTS)


@pytest.mark.parametrize("client", CLIENTS)
def test_printing_writes_nothing_and_shows_no_key(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, home: Path, client: str
) -> None:
    monkeypatch.setenv("RLU_API_KEY", KEY)
    ran = rlu(capsys, "clients", client, f"{URL}/v1/", "--model", "big")
    assert ran.code == 0, ran.err
    assert URL in ran.out
    assert "RLU_API_KEY" in ran.out
    assert KEY not in ran.out + ran.err
    assert list(home.iterdir()) == []


def test_what_is_exported(capsys: Capture, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    trusted = home / "with space.crt"
    trusted.write_text("x")
    ran = rlu(capsys, "clients", "opencode", URL, "--model", "m", "--ca-file", trusted.name)
    assert f"export OPENCODE_CONFIG={home}/.config/opencode/rlu.json\n" in ran.out
    assert f"export NODE_EXTRA_CA_CERTS='{trusted}'\n" in ran.out
    assert "# export RLU_API_KEY=...   the API key\n" in ran.out
    assert ran.out.endswith("\nopencode\n")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "another service's")
    ran = rlu(capsys, "clients", "claude", URL, "--model", "m")
    assert "unset ANTHROPIC_API_KEY\n" in ran.out
    assert "unset ANTHROPIC_AUTH_TOKEN\n" not in ran.out


def test_writing(capsys: Capture, home: Path) -> None:
    words = ("clients", "codex", URL, "--model", "big", "--small-model", "small", "--write")
    # Nobody is there to say yes.
    ran = rlu(capsys, *words)
    assert (ran.code, list(home.iterdir())) == (2, [])
    assert "[clients.consent]" in ran.err
    ran = rlu(capsys, *words, "--yes", "--json")
    assert ran.code == 0, ran.err
    assert [Path(one["path"]).name for one in ran.json["files"]][:2] == [
        "rlu.config.toml",
        "orchestrator.toml",
    ]
    assert ran.json["done"][0] == f"wrote {home}/.codex/rlu.config.toml"
    profile = home / ".codex" / "rlu.config.toml"
    assert tomllib.loads(profile.read_text())["model"] == "big"
    explorer = home / ".codex" / "rlu-agents" / "explorer.toml"
    assert tomllib.loads(explorer.read_text())["model"] == "small"

    # What is there is not replaced by --yes alone, and is kept when it is.
    profile.write_text("mine = 1\n")
    ran = rlu(capsys, *words, "--yes")
    assert (ran.code, profile.read_text()) == (2, "mine = 1\n")
    assert f"replace, keeping a backup: {profile}\n" in ran.err
    ran = rlu(capsys, *words, "--yes", "--replace")
    assert ran.code == 0
    assert profile.with_name("rlu.config.toml.backup-1").read_text() == "mine = 1\n"
    assert "everything was there already" in rlu(capsys, *words, "--yes").out


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 2), ("", 1)])
def test_asking(capsys: Capture, monkeypatch: pytest.MonkeyPatch, home: Path, answer: str, code: int) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    ran = rlu(capsys, "clients", "python", URL, "--model", "m", "--write")
    assert ran.code == code
    assert f"write: {home}/rlu_client.py" in ran.err
    assert (home / "rlu_client.py").exists() == (code == 0)


def test_a_directory_of_ones_own(capsys: Capture, home: Path) -> None:
    ran = rlu(
        capsys,
        "clients",
        "codex",
        URL,
        "--model",
        "m",
        "--directory",
        "own",
        "--no-roles",
        "--write",
        "--yes",
    )
    assert [path.name for path in (home / "own").iterdir()] == ["rlu.config.toml"]
    assert f"export CODEX_HOME={home}/own\n" in ran.out


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ((URL,), "clients.key"),
        ((URL, "--key-variable", KEY, "--model", "m"), "clients.variable"),
        (("http://rlu.example", "--model", "m"), "clients.url"),
        ((URL, "--ca-file", "absent.crt", "--model", "m"), "clients.ca_file"),
        ((URL, "--model", "a\nb"), "clients.model"),
    ],
)
def test_refusals(capsys: Capture, words: tuple[str, ...], code: str) -> None:
    ran = rlu(capsys, "clients", "codex", *words)
    assert ran.code == 2
    assert f"[{code}]" in ran.err
    assert KEY not in ran.err


def test_the_names_of_the_server(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def answer(*given: Any) -> dict[str, str]:
        asked.append(given)
        return {"qwen": "qwen", "gpt-5.4": "qwen", "gpt-5.3-codex-spark": "qwen"}

    monkeypatch.setattr(command, "models", answer)
    monkeypatch.setenv("MY_KEY", KEY)
    ran = rlu(capsys, "clients", "codex", URL, "--key-variable", "MY_KEY", "--json")
    assert asked == [(URL, KEY, None)]
    models = {tomllib.loads(file["text"])["model"] for file in ran.json["files"]}
    assert models == {"gpt-5.4", "gpt-5.3-codex-spark"}
    assert KEY not in ran.out
