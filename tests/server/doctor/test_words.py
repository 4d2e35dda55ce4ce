"""Every code, event and finding of the server has its text, and every text belongs to something that is raised."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import get_args

import pytest

from fakes.terminal import rlu
from rlu_server.adapters import events as gateway
from rlu_server.attestor import events as attestor
from rlu_server.attestor.messages import Failure
from rlu_server.cli.serve import command as serve
from rlu_server.core.errors import CATALOGUE
from rlu_server.doctor import explaining
from rlu_server.doctor.words import GROUPS
from rlu_server.doctor.words.attestor import ATTESTOR
from rlu_server.doctor.words.cluster import FINDINGS as CLUSTER
from rlu_server.doctor.words.events import OF_THE_ATTESTOR, OF_THE_ENGINE, OF_THE_GATEWAY, OF_THE_SUPERVISOR
from rlu_server.doctor.words.gateway import REFUSALS
from rlu_server.doctor.words.machine import FINDINGS as MACHINE
from rlu_server.doctor.words.processes import EXITS, STARTING
from rlu_server.engine.inside.rlu_output_filter import EVENTS
from rlu_server.lock.rlu_lock import EXIT_REFUSED
from rlu_server.supervisor import errors as starting

ROOT = Path(__file__).resolve().parents[3]
SERVER = ROOT / "server" / "rlu_server"
WORDS = SERVER / "doctor" / "words"
ADD = "add its text to server/rlu_server/doctor/words"
CODE = re.compile(r"[a-z0-9_{}-]+(\.[a-z0-9_{}-]+)+")
MADE = {
    "{step}.": ("nsm", "tsm"),  # blame() of attestor/collect/collector.py
    "{kind}.": ("azure-vtpm", "gcp-vtpm"),
}
"""Codes that are put together, and of what."""
SIGNED = {f"{room}.{what}" for room in ("licence", "licence.answer") for what in ("key", "signature")}
"""Of `jws.verify`, which names the room that it was called for."""
QUIET = {"loading", "preparing", "log", "other-output"}


CLASS = re.compile(r"^class (\w+)\(([\w, .]+)\):", re.MULTILINE)


@cache
def sources() -> dict[Path, str]:
    """The server's, without the words themselves."""
    return {
        path: path.read_text("utf-8") for path in sorted(SERVER.rglob("*.py")) if WORDS not in path.parents
    }


@cache
def errors() -> frozenset[str]:
    """Names of all classes below RluError."""
    bases = defaultdict(set)
    verifier = [path.read_text("utf-8") for path in (ROOT / "attestation/rlu_attestation").rglob("*.py")]
    for text in (*sources().values(), *verifier):
        for name, above in CLASS.findall(text):
            bases[name] |= {one.strip() for one in above.split(",")}
    found = {"RluError"}
    while new := {name for name, above in bases.items() if above & found} - found:
        found |= new
    return frozenset(found)


@cache
def calls() -> tuple[tuple[Path, str, ast.Call], ...]:
    """Every call in the server, with the name that is called."""
    return tuple(
        (path, getattr(node.func, "id", getattr(node.func, "attr", "")), node)
        for path, text in sources().items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call)
    )


def text_of(node: ast.expr) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    return ast.unparse(node)[2:-1] if isinstance(node, ast.JoinedStr) else None


def raised() -> set[str]:
    """Codes that a refusal of the server names, with those that are put together."""
    found: set[str] = set()
    for _, name, call in calls():
        first = text_of(call.args[0]) if call.args else None
        if name == "Offence" and len(call.args) > 1:
            first = text_of(call.args[1])
        if name not in errors() | {"Offence"} or first is None or not CODE.fullmatch(first):
            continue
        if "{" not in first:
            found.add(first)
            continue
        stem = next((stem for stem in MADE if first.startswith(stem)), None)
        assert stem is not None, f"{first}: say in MADE what it is made of"
        found |= {f"{part}.{first.removeprefix(stem)}" for part in MADE[stem]}
    return found


def everything() -> dict[str, object]:
    return {code: text for group in GROUPS for code, text in group.texts.items()}


def test_every_refusal_of_the_gateway_has_its_text() -> None:
    assert set(REFUSALS) == set(CATALOGUE), ADD


def test_every_code_that_is_raised_has_its_text() -> None:
    assert sorted((raised() | SIGNED) - set(everything())) == [], ADD


def test_every_short_word_has_its_text() -> None:
    """Codes without a room: what errors of the processes' protocol, and events that no error caused, are told by."""
    found = set()
    for _, name, call in calls():
        at = 0 if name in errors() else 1 if name == "emit" else None
        word = text_of(call.args[at]) if at is not None and len(call.args) > at else None
        if word is not None and re.fullmatch(r"[a-z_]+", word):
            found.add(word)
    assert "no_answer" in found
    assert sorted(found - set(everything())) == [], ADD


def test_codes_of_tables_have_their_texts() -> None:
    """NVML's and NSCQ's codes are in tables; causes of `signer.failed` that are no errors; what the attestor says to its other end."""
    for name in ("nvml", "nscq"):
        text = (SERVER / f"attestor/collect/{name}.py").read_text("utf-8")
        found = set(re.findall(rf'"({name}\.[a-z_]+)"', text))
        assert len(found) > 5
        assert found <= set(ATTESTOR), ADD
    for module in ("attestor/server.py", "attestor/drift.py", "attestor/licensing.py"):
        text = (SERVER / module).read_text("utf-8")
        literal = {code for code in re.findall(r'"([a-z]+\.[a-z_]+)"', text) if not code.endswith(".json")}
        assert literal <= {*ATTESTOR, *OF_THE_ATTESTOR}, ADD
    assert "code" in Failure.__struct_fields__


def test_every_event_that_matters_has_its_text() -> None:
    assert set(OF_THE_GATEWAY) == {one for one in get_args(gateway.Event) if one not in gateway.INFORMATION}
    assert set(OF_THE_ATTESTOR) == {one.value for one in attestor.Event if one not in attestor.INFORMATION}
    assert set(OF_THE_ENGINE) == {f"engine.{name}" for name in EVENTS if name not in QUIET}


def normal() -> set[str]:
    """What the supervisor tells in the normal course, as the runbook's test has it."""
    text = (ROOT / "tests/docs/test_runbook.py").read_text("utf-8")
    names = set(re.findall(r'"([\w.]+)"', text.partition("NORMAL = {")[2].partition("}")[0]))
    assert "serving" in names
    return names


def test_every_event_of_the_supervisor_has_its_text() -> None:
    files = [*(SERVER / "supervisor").glob("*.py"), SERVER / "cli/serve.py"]
    text = "\n".join(path.read_text("utf-8") for path in files)
    named = set(re.findall(r"(?:\bevent|_event|tell)\(\s*\"([a-z][a-z_.]+)\"", text)) - normal()
    by_role = set(re.findall(r"_on_event\(f\"\{self\.role\}\.(\w+)\"", text)) - {
        "starting",
        "ready",
        "stopped",
    }
    named |= {f"{role}.{one}" for one in by_role for role in ("attestor", "engine", "gateway")}
    assert named | {"output.withheld"} == set(OF_THE_SUPERVISOR), ADD


def test_why_serve_ends_and_with_which_code() -> None:
    classes = [value for value in vars(starting).values() if isinstance(value, type)]
    ends = [one for one in classes if issubclass(one, starting.ServeError)]
    assert set(STARTING) == {one.code for one in ends} | {"serve.settings"}
    assert {f"exit.{one.exit_code}" for one in ends} | {f"exit.{EXIT_REFUSED}"} <= set(EXITS)
    in_help = re.findall(r"(\d+) [a-z]", (serve.__doc__ or "").partition("Exit codes:")[2])
    assert {f"exit.{code}" for code in in_help} <= set(EXITS)


def findings(package: str) -> set[str]:
    """Ids of findings, from the calls that make them."""
    found = set()
    for path, name, call in calls():
        if f"rlu_server/{package}/" in path.as_posix() and call.args:
            id_ = text_of(call.args[0])
            made = {"ok", "info", "warning", "error", "Finding"}
            if id_ and CODE.fullmatch(id_) and (name in made or isinstance(call.func, ast.IfExp)):
                found.add(id_)
    return found


def test_every_finding_about_a_node_has_its_text() -> None:
    devices = set(re.findall(r'"(t\w+\.\w+)": \(', (SERVER / "preflight/judge_host.py").read_text("utf-8")))
    assert len(devices) == 4
    made = findings("preflight")
    parts = (SERVER / "preflight/cluster/judge.py").read_text("utf-8")
    made |= set(re.findall(r'"(cluster\.\w+)": \(', parts))
    assert len(made) > 50
    assert {id_ for id_ in made if not id_.startswith("cluster.")} | devices == set(MACHINE), ADD
    assert {id_ for id_ in made if id_.startswith("cluster.")} == set(CLUSTER), ADD


def test_no_text_is_left_over() -> None:
    """Each is written in the sources, or put together there."""
    whole = "\n".join(sources().values())
    made = raised() | SIGNED | set(OF_THE_ENGINE) | set(OF_THE_SUPERVISOR) | set(EXITS)
    assert {code for code in everything() if code not in made and f'"{code}"' not in whole} == set()


def test_texts_are_sentences() -> None:
    for group in GROUPS:
        assert group.looks
        for code, text in group.texts.items():
            for sentence in text:
                assert re.fullmatch(r"[`A-Z0-9v].*[.?]", sentence), (code, sentence)


def test_what_texts_name_is_there() -> None:
    """Commands, settings, codes and headings of the runbook that a remedy names."""
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        import check_help
    finally:
        sys.path.remove(str(ROOT / "scripts"))
    toml = (ROOT / "server/rlu.example.toml").read_text("utf-8")
    runbook = (ROOT / "docs/runbook.md").read_text("utf-8")
    known = {*everything(), *(event.value for event in attestor.Event)}
    for group in GROUPS:
        for code, text in group.texts.items():
            words = " ".join(text)
            for command in re.findall(r"`(rlu [^`]+)`", words):
                assert list(check_help.check_command(command, complete=False)) == [], (code, command)
            for section, names in re.findall(r"`\[([a-z_.]+)\] ([a-z_]+)", words):
                top, _, inner = section.partition(".")
                assert f"[{top}]" in toml or f"[{section}]" in toml, (code, section)
                assert inner in toml, (code, section)
                assert re.search(rf"\b{names}\b", toml), (code, names)
            for heading in re.findall(r"docs/runbook\.md, `([^`]+)`", words):
                assert f"## {heading}\n" in runbook, (code, heading)
            for other in re.findall(r"As `([a-z_.]+)`|see `([a-z_]+)`\.", words):
                assert next(filter(None, other)) in known, (code, other)


def test_every_code_is_explained() -> None:
    for code in everything():
        meanings = explaining.explain(code)
        assert meanings, code
        assert all(one.code == code and one.fails and one.remedy and one.looks for one in meanings)


def test_one_footing(capsys: pytest.CaptureFixture[str]) -> None:
    """`rlu explain` knows the server's codes; a name that both have has both meanings."""
    ran = rlu(capsys, "explain", "signer_unavailable")
    assert ran.code == 0
    assert "a refusal of the gateway" in ran.out
    both = rlu(capsys, "explain", "tdx.quote", "--json").json
    assert (both["title"], both["looks"]) == ("an Intel TDX quote", "")
    assert [one["code"] for one in both["also"]] == ["tdx.quote"]
    assert rlu(capsys, "explain", "77", "--json").json["code"] == "exit.77"
    unknown = rlu(capsys, "explain", "signer_unavalable")
    assert (unknown.code, unknown.out) == (2, "")
    assert "signer_unavailable" in unknown.err
    assert rlu(capsys, "explain", "--list", "--json").json["server"] == dict(explaining.known())


def test_the_words_need_nothing_of_the_server() -> None:
    """Who installed only the verifier can have the server's codes explained."""
    code = (
        "import sys, rlu_server.doctor.explaining;"
        "print(sorted(n for n in ('orjson', 'pydantic', 'msgspec', 'uvloop') if n in sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout == "[]\n"
