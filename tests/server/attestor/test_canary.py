"""Findings of a canary test, taken over by a running attestor: the statement is its own, and only about itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes.attestor_process import INSTANCE_FACTS, AttestorProcess
from fakes.canary import CLEAN, findings
from rlu_attestation import canary, canonical, jose
from rlu_attestation.canary import PLACES, Findings
from rlu_attestation.encoding import unb64u
from rlu_attestation.instance import InstanceClaims
from rlu_server.attestor import asking, messages
from rlu_server.attestor.canary import FILE, OLDEST_S, Canary
from waiting import until

OURS = unb64u(INSTANCE_FACTS["model"]["manifest_sha256"])


async def act(state: Path, text: str) -> asking.Outcome:
    """What `rlu selftest sign` does."""
    directory = state / "attestation"
    asked = asking.Asked("canary", "a test", text)
    asking.ask(directory, asked)
    found: list[asking.Outcome | None] = []
    await until(lambda: found.append(asking.answered(directory, asked)) or found[-1], lambda: "no answer")
    assert found[-1] is not None
    return found[-1]


def text_of(found: Findings) -> str:
    return canonical.encode(found.to_json()).decode()


async def stated(gateway: Any) -> InstanceClaims:
    ask = messages.Attest(id=gateway.next_id(), nonce=b"n" * 16)
    attestation = await gateway.ask(ask, messages.Attestation)
    return InstanceClaims.parse(jose.jws_parse(attestation.statement).payload)


@pytest.mark.tpm
async def test_it_signs_and_names_a_report(attestor_process: AttestorProcess) -> None:
    state = attestor_process.deployment.state
    gateway = await attestor_process.connect()
    welcome = await gateway.hello()
    opened = await gateway.open()
    assert (await stated(gateway)).canary is None
    before = int(time.time())
    outcome = await act(state, text_of(findings(model_manifest=OURS)))
    assert outcome.code is None, outcome
    assert outcome.report is not None
    report = canary.verify(outcome.report)
    assert report.issuer == welcome.issuer
    assert before <= report.issued_at <= time.time()
    claims = await stated(gateway)
    assert claims.canary == canary.mention(outcome.report)
    # The instance is the same, and so is the session.
    assert await gateway.begin(opened.session) == 1
    assert (state / "attestation" / FILE).read_text().strip() == outcome.report
    # The next start names it too.
    assert Canary(state / "attestation", state, lambda: 0).mention == claims.canary
    # A leak is stated like anything else.
    leak = {**dict.fromkeys(PLACES, CLEAN), "swap": replace(CLEAN, leaks=1)}
    assert (await act(state, text_of(findings(model_manifest=OURS, places=leak)))).code is None
    claims = await stated(gateway)
    assert claims.canary is not None
    assert claims.canary.result == "leak"


@pytest.mark.tpm
async def test_it_signs_nothing_else(attestor_process: AttestorProcess) -> None:
    state = attestor_process.deployment.state
    gateway = await attestor_process.connect()
    await gateway.hello()
    good = findings(model_manifest=OURS)
    now = int(time.time())
    refused: dict[str, list[str]] = {
        "canary.other_deployment": [
            text_of(findings()),
            text_of(replace(good, engine=replace(good.engine, version="0.33.0"))),
            text_of(replace(good, engine=replace(good.engine, digest=bytes(31) + b"\1"))),
            text_of(replace(good, gateway=replace(good.gateway, version="0.0.1"))),
        ],
        "canary.time": [
            text_of(replace(good, began=now - OLDEST_S - 900, ended=now - OLDEST_S - 600)),
            text_of(replace(good, ended=now + 3600)),
            text_of(replace(good, began=good.ended + 1)),
        ],
        "statement.encoding": ["", "words to be signed", text_of(good) + " ", "{}\n", "[1]"],
        "statement.claims": ["{}", text_of(good).replace('"result":"clean"', '"result":"leak"')],
    }
    for code, texts in refused.items():
        for text in texts:
            outcome = await act(state, text)
            assert (outcome.code, outcome.report) == (code, None), text[:80]
    assert (await stated(gateway)).canary is None
    assert not (state / "attestation" / FILE).exists()
    assert attestor_process.events().count("canary.refused") == sum(map(len, refused.values()))


@pytest.mark.parametrize(
    "content",
    [
        lambda: b"",
        lambda: b"not a report",
        lambda: b"\xff\xfe",
        lambda: ("." * 40_000).encode(),
    ],
)
def test_a_file_that_is_no_report_is_none(tmp_path: Path, content: Callable[[], bytes]) -> None:
    (tmp_path / FILE).write_bytes(content())
    assert Canary(tmp_path, tmp_path, lambda: 0).mention is None
