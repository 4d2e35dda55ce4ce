"""A boundary report of a deployment that ran: sessions over HTTP, a key that was rotated, a restart; made, verified, printed, altered."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from e2e.processes import until
from e2e.scripted_stack import MODEL, Scripted
from fakes.log_stack import LogStack
from fakes.terminal import Ran, rlu
from rlu_attestation.boundary.report import Report
from rlu_attestation.policy_signature import generate, load_private_key, load_public_key
from rlu_server import swtpm
from rlu_server.attestor import asking
from rlu_server.boundary.kept import chain
from waiting import until as until_async

pytestmark = pytest.mark.tpm
ASK = {"model": MODEL, "messages": [{"role": "user", "content": "a secret of the boundary"}], "stream": False}
SESSIONS = 3


@dataclass(frozen=True, slots=True)
class Ended:
    """What a deployment left: its state, the period, and the instances that its tallies name."""

    state: Path
    begin: int
    end: int
    instances: tuple[str, ...]


@pytest.fixture(scope="module")
def ended(manufactured_tpm: Path) -> Iterator[Ended]:
    with (
        tempfile.TemporaryDirectory(prefix="rlu-boundary-") as home,
        tempfile.TemporaryDirectory(prefix="rlu-tpm-") as tpm,
    ):
        for part in ("tpm", "ca"):
            shutil.copytree(manufactured_tpm / part, Path(tpm) / part)
        with swtpm.SoftwareTpm(Path(tpm)) as running:
            stack = Scripted(Path(home), running)
            begin = int(time.time())
            try:
                stack.start()
                _serve(stack)
                asyncio.run(_rotate(stack))
                _serve(stack)
            finally:
                stack.stop()
            # Stopped, it has counted everything. It counts again when it is stopped again, in a later second: that closes the period.
            counted = [one.tallies(0)[-1].tally for one in chain(stack.deployment.state / "log")]
            last = max(tally.issued_at for tally in counted)
            until(lambda: int(time.time()) > last, 60, stack.logs)
            stack.caller.certificate.unlink()  # the gateway makes another one
            stack.caller = stack.caller.with_key(stack.caller.key)
            try:
                stack.start()
                _serve(stack)
            finally:
                stack.stop()
        logs = chain(stack.deployment.state / "log")
        _journal(stack.deployment.state / "egress.jsonl", begin)
        yield Ended(
            stack.deployment.state,
            begin,
            last + 1,
            tuple(one.ended.issuer.removeprefix("urn:rlu:instance:") for one in logs),
        )


def _serve(stack: Scripted) -> None:
    """One explicit session, and a request in it."""
    opened = stack.caller.post("/v1/rlu/sessions", {"nonce": "AAAAAAAAAAAAAAAAAAAAAA"})
    assert opened.status == 201, opened
    answer = stack.caller.post("/v1/chat/completions", ASK, {"RLU-Session": opened.json()["session"]})
    assert answer.status == 200, answer


async def _rotate(stack: Scripted) -> None:
    directory = stack.deployment.state / "attestation"
    asked = asking.Asked("rotate", "rotate")
    asking.ask(directory, asked)
    found: list[asking.Outcome | None] = []
    await until_async(lambda: found.append(asking.answered(directory, asked)) or found[-1], stack.logs)
    assert found[-1] is not None
    assert found[-1].code is None, found[-1]


def _journal(path: Path, at: int) -> None:
    line = {
        "time": at, "job": "telemetry", "destination": "telemetry.example:443", "proxy": "", "sent": 412, "received": 2,
        "sha256": "ab" * 32, "result": "sent",
    }  # fmt: skip
    path.write_text(json.dumps(line) + "\n", "ascii")


@dataclass(frozen=True, slots=True)
class Desk:
    """An operator's and an auditor's files."""

    directory: Path
    capsys: pytest.CaptureFixture[str]

    @property
    def public(self) -> Path:
        return self.directory / "report.pub.pem"

    @property
    def file(self) -> Path:
        return self.directory / "report.jws"

    def make(self, ended: Ended, *more: object, end: int | None = None) -> Ran:
        return rlu(
            self.capsys, "boundary", "report", "--from", ended.begin, "--to", ended.end if end is None else end,
            "--key", self.directory / "report.pem", "--out", self.file, "--state-dir", ended.state, "--json", *more,
        )  # fmt: skip

    def verify(self, *instances: str) -> Ran:
        known = [option for name in instances for option in ("--instance", name)]
        return rlu(self.capsys, "verify", self.file, "--report-key", self.public, "--json", *known)

    def sign(self, report: Report) -> None:
        self.file.write_text(
            report.sign(load_private_key((self.directory / "report.pem").read_bytes())) + "\n"
        )

    def read(self) -> Report:
        return Report.verify(self.file.read_text().strip(), [load_public_key(self.public.read_bytes())])


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    private, public = generate("Ed25519")
    (tmp_path / "report.pem").write_bytes(private)
    (tmp_path / "report.pub.pem").write_bytes(public)
    return Desk(tmp_path, capsys)


def figures(found: Any) -> dict[str, int]:
    return {figure["name"]: figure["value"] for figure in found["figures"] if not figure["of"]}


def test_made_verified_and_printed(ended: Ended, desk: Desk) -> None:
    page = desk.directory / "report.html"
    ran = desk.make(ended, "--page", page)
    assert ran.code == 0, ran.err
    seen = desk.verify(*ended.instances)
    assert (seen.code, seen.json["result"]) == (0, "verified")
    assert seen.json["figures"] == ran.json["figures"]
    found = figures(seen.json)
    assert len(ended.instances) == len(seen.json["instances"]) == 2
    assert (found["sessions"], found["rotations"]) == (2, 1)
    by_place = [figure for figure in seen.json["figures"] if figure["name"] == "sessions" and figure["of"]]
    assert {(f["of"]["region"], f["of"]["hardware"], f["of"]["models"]) for f in by_place} == {
        ("eu-central-1", "cpu-demo", MODEL)
    }
    receipts = {f["of"]["status"]: f["value"] for f in seen.json["figures"] if f["name"] == "receipts"}
    assert receipts == {"complete": 2}
    keys = [f["of"] for f in seen.json["figures"] if f["name"] == "key.sessions"]
    assert {key["hardware"] for key in keys} == {"tpm2"}
    sent = [f for f in seen.json["figures"] if f["name"] == "egress.sent"]
    assert [(f["value"], f["source"], f["of"]["destination"]) for f in sent] == [
        (412, "asserted", "telemetry.example:443")
    ]
    for text in (desk.file.read_text(), page.read_text()):
        assert "secret" not in text
    assert "boundary.open.instance" in page.read_text()

    again = desk.directory / "verified.html"
    known = [option for name in ended.instances for option in ("--instance", name)]
    printed = rlu(
        desk.capsys, "boundary", "page", desk.file, "--report-key", desk.public, "--out", again, *known
    )
    assert (printed.code, "Left open" in again.read_text()) == (0, False)


def test_a_key_that_nobody_knows_is_no_exit_code_0(ended: Ended, desk: Desk) -> None:
    desk.make(ended)
    seen = desk.verify(*ended.instances[:1])
    assert (seen.code, [point["code"] for point in seen.json["open"]]) == (11, ["boundary.open.instance"])
    assert ended.instances[1] in seen.json["open"][0]["detail"]


def test_every_figure_that_an_operator_alters_is_found(ended: Ended, desk: Desk) -> None:
    """The operator signs what he likes: with the right key, and wrong numbers."""
    desk.make(ended)
    right = desk.read()
    for place, figure in enumerate(right.figures):
        altered = replace(figure, value=figure.value + 1)
        desk.sign(replace(right, figures=(*right.figures[:place], altered, *right.figures[place + 1 :])))
        seen = desk.verify(*ended.instances)
        if figure.source == "asserted":
            assert (seen.code, seen.json["figures"][place]["source"]) == (0, "asserted")
        else:
            assert (seen.code, {point["code"] for point in seen.json["false"]}) == (
                10,
                {"boundary.figures"},
            ), figure


def test_an_altered_file_and_another_key(ended: Ended, desk: Desk) -> None:
    desk.make(ended)
    text = desk.file.read_text()
    desk.file.write_text(text[:-4] + "AAA\n" if not text.endswith("AAA\n") else text[:-4] + "BBB\n")
    ran = desk.verify(*ended.instances)
    assert (ran.code, ran.json["code"]) in [(10, "boundary.signature"), (30, "boundary.encoding")]
    desk.file.write_text(text)
    desk.public.write_bytes(generate("ES256")[1])
    ran = desk.verify(*ended.instances)
    assert (ran.code, ran.json["code"]) == (10, "boundary.key")
    page = desk.directory / "no.html"
    printed = rlu(desk.capsys, "boundary", "page", desk.file, "--report-key", desk.public, "--out", page)
    assert (printed.code, page.exists()) == (10, False)


def test_a_period_that_is_not_over(ended: Ended, desk: Desk) -> None:
    ran = desk.make(ended, end=ended.end + 86400)
    assert (ran.code, figures(ran.json)["sessions"]) == (11, SESSIONS)
    assert [point["code"] for point in ran.json["open"]] == ["boundary.open.end"]


def test_a_log_that_was_moved_away(ended: Ended, desk: Desk, tmp_path: Path) -> None:
    """The log of the key before this one is missing: sessions of the period were in it."""
    state = Path(shutil.copytree(ended.state, tmp_path / "state"))
    (state / "log" / f"{ended.instances[0]}.jsonl").unlink()
    ran = desk.make(replace(ended, state=state))
    assert (ran.code, ran.json["code"]) == (10, "boundary.instances")


def test_counted_again_from_what_was_exported(desk: Desk) -> None:
    """What a SIEM kept, held against the report; and a report that the SIEM has another story about."""
    begin = int(time.time())
    with tempfile.TemporaryDirectory(prefix="rlu-boundary-") as home:
        stack = LogStack(Path(home) / "server")
        with stack:
            stack.open_sessions(SESSIONS)
        last = chain(stack.log)[-1].tallies(0)[-1].tally.issued_at
        until(lambda: int(time.time()) > last, 60, stack.output)
        siem = desk.directory / "siem.jsonl"
        with stack:
            stack.open_sessions(1)  # after the period; the tally of it closes the period
            exported = rlu(
                desk.capsys, "log", "export", stack.url, "--to", siem, "--cursor", desk.directory / "cursor.json", "--once",
                "--policy", stack.policy, "--api-key-file", stack.exporter, "--insecure-accept-software-key",
            )  # fmt: skip
            assert exported.code == 0, exported.err
        instance = chain(stack.log)[0].ended.issuer.removeprefix("urn:rlu:instance:")
        assert desk.make(Ended(stack.deployment.state, begin, last + 1, (instance,))).code == 0

    def recounted(*files: Path) -> Ran:
        known = ("--report-key", desk.public, "--instance", instance, "--json")
        return rlu(desk.capsys, "boundary", "recount", desk.file, *files, *known)

    ran = recounted(siem)
    assert (ran.code, figures(ran.json)["sessions"]) == (0, SESSIONS)
    lines = siem.read_text().splitlines(keepends=True)
    other, fewer, broken = (desk.directory / name for name in ("other.jsonl", "fewer.jsonl", "broken.jsonl"))
    other.write_text("".join(lines).replace('"session"', '"gap"', 1))
    assert {point["code"] for point in recounted(other).json["false"]} == {"boundary.entries"}
    fewer.write_text("".join(lines[1:]))
    assert {point["code"] for point in recounted(fewer).json["open"]} == {"boundary.open.entries"}
    assert recounted(fewer, siem).code == 0
    broken.write_text(lines[0] + "no entry\n")
    ran = recounted(broken)
    assert (ran.code, ran.json["code"]) == (30, "boundary.entries.encoding")
    assert recounted(desk.directory / "none").json["code"] == "file.unreadable"


def test_usage(ended: Ended, desk: Desk) -> None:
    desk.make(ended)
    ran = rlu(desk.capsys, "verify", desk.file)
    assert (ran.code, "--report-key" in ran.err) == (2, True)
    ran = rlu(desk.capsys, "verify", desk.file, "--instance", "x")
    assert ran.code == 2
    assert rlu(desk.capsys, "verify", desk.file, "--report-key", desk.public, "--format", "ear").code == 2
    assert desk.make(ended).json["code"] == "file.exists"
    desk.file.unlink()
    assert desk.make(ended, end=ended.begin).code == 2
    assert desk.make(replace(ended, state=desk.directory)).json["code"] == "boundary.log"
