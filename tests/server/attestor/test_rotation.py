"""Rotation on a software TPM: overlap, crash in the middle of it, retirement, rehearsal, and what is refused."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
from pathlib import Path

import pytest
from tpm2_pytss import ESYS_TR

from fakes.asked import act
from fakes.attestor_process import AttestorProcess, Deployment, GatewaySide
from fakes.attestor_room import Room
from rlu_attestation import continuity, cose, jose
from rlu_attestation.cli.log_directory import audit
from rlu_attestation.instance import InstanceClaims
from rlu_attestation.log.follow import follow
from rlu_attestation.log.state import State
from rlu_attestation.log.view import View
from rlu_attestation.merkle import leaf_hash
from rlu_attestation.statements import Close, Receipt, SessionStatement
from rlu_server.attestor import asking, messages, rotation
from rlu_server.attestor.instances import Instances
from rlu_server.attestor.rotation import Rotation
from rlu_server.attestor.slots import FileSlots, continuity_of
from rlu_server.attestor.tpm.connection import Tpm
from rlu_server.settings import load
from waiting import until


def claims_of(welcome: messages.Welcome) -> InstanceClaims:
    return InstanceClaims.parse(jose.jws_parse(welcome.statement).payload)


def verified(welcome: messages.Welcome, opened: messages.SessionOpened) -> SessionStatement:
    """A session's statement, signed by that instance."""
    statement = SessionStatement.parse(opened.logged.statement)
    assert statement.issuer == welcome.issuer
    assert statement.instance == welcome.profile_digest
    receipt = cose.parse_inclusion(opened.receipt)
    receipt.verify(jose.public_key(welcome.jwk), leaf_hash(opened.logged.statement))
    return statement


async def prove(gateway: GatewaySide, welcome: messages.Welcome, logged: messages.Logged) -> None:
    """The log of that instance holds this statement."""
    ask = messages.Prove(id=gateway.next_id(), leaf_index=logged.leaf_index, issuer=welcome.issuer)
    receipt = cose.parse_inclusion((await gateway.ask(ask, messages.Proof)).receipt)
    assert receipt.issuer == welcome.issuer
    receipt.verify(jose.public_key(welcome.jwk), leaf_hash(logged.statement))


async def until_retired(process: AttestorProcess) -> None:
    await until(lambda: "key.retired" in process.events(), process.output)


@pytest.mark.tpm
async def test_the_old_key_goes_on_with_its_sessions(attestor_process: AttestorProcess) -> None:
    deployment = attestor_process.deployment
    gateway = await attestor_process.connect()
    old = await gateway.hello()
    opened = await gateway.open()
    await gateway.begin(opened.session)
    assert await gateway.begin(opened.session) == 2
    outcome = await act(deployment, "rotate")
    assert outcome.code is None, outcome

    new = await gateway.answer(0)
    assert isinstance(new, messages.Welcome)
    assert outcome.issuer == new.issuer != old.issuer
    verified(new, await gateway.open())
    # A key of its own, with evidence of its own.
    attestation = await gateway.ask(
        messages.Attest(id=gateway.next_id(), nonce=b"n" * 16), messages.Attestation
    )
    jws = jose.jws_parse(attestation.statement)
    jose.verify_es256(jose.public_key(new.jwk), jws.signing_input, jws.signature)
    assert [item.kind for item in attestation.evidence] == ["tpm2"]
    assert claims_of(new).key_created >= claims_of(old).key_created
    assert claims_of(new).start_count == claims_of(old).start_count + 1
    # The session that was open goes on where it was.
    recorded = await gateway.record(opened.session, 1)
    assert Receipt.parse(recorded.logged.statement).issuer == old.issuer
    assert await gateway.begin(opened.session) == 3
    await prove(gateway, old, recorded.logged)
    # Another rotation has to wait.
    assert (await act(deployment, "rotate")).code == "rotation.under_way"

    closed = await gateway.close_session(opened.session)
    close = Close.parse(closed.logged.statement)
    assert (close.issuer, close.count, close.reason) == (old.issuer, 3, "client_request")
    await until_retired(attestor_process)
    await prove(gateway, old, closed.logged)  # from the files, now
    assert sorted(p.name for p in (deployment.state / "attestation").glob("instance-key*")) == [
        "instance-key.tss2.pem"
    ]
    await check_past(gateway, old, new, deployment)
    assert (await act(deployment, "rotate")).code is None
    assert (await gateway.answer(0)).issuer != new.issuer  # type: ignore[union-attr]


async def check_past(
    gateway: GatewaySide, old: messages.Welcome, new: messages.Welcome, deployment: Deployment
) -> None:
    """The new instance names the old one's final head, which extends the one that the old key handed over at."""
    attestation = await gateway.ask(
        messages.Attest(id=gateway.next_id(), nonce=b"m" * 16), messages.Attestation
    )
    named = InstanceClaims.parse(jose.jws_parse(attestation.statement).payload).predecessor
    assert named is not None
    assert named.issuer == old.issuer
    final = cose.parse_head(named.head)
    text = continuity_of(deployment.state / "attestation" / "continuity", new.issuer.rpartition(":")[2])
    assert text is not None
    word, handed = continuity.verify(text)
    assert (word.issuer, word.successor) == (old.issuer, jose.thumbprint(new.jwk))
    assert handed.tree_size < final.tree_size
    ask = messages.ProveConsistency(id=gateway.next_id(), old_size=handed.tree_size, issuer=old.issuer)
    receipt = cose.parse_consistency((await gateway.ask(ask, messages.Proof)).receipt)
    assert receipt.verify(jose.public_key(old.jwk), handed.root) == final.root


@pytest.mark.tpm
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_restart_in_the_middle(attestor_process: AttestorProcess, number: int) -> None:
    gateway = await attestor_process.connect()
    old = await gateway.hello()
    opened = await gateway.open()
    await gateway.begin(opened.session)
    await act(attestor_process.deployment, "rotate")
    new = await gateway.answer(0)
    assert isinstance(new, messages.Welcome)
    fresh = await gateway.open()
    recorded = await gateway.record(opened.session, 1)
    await asyncio.to_thread(attestor_process.stop, number)
    await asyncio.to_thread(attestor_process.start)

    again = await attestor_process.connect()
    welcome = await again.hello()
    assert (welcome.issuer, welcome.profile_digest) == (new.issuer, new.profile_digest)
    # Both sessions are there; the numbers of the old one go on.
    assert await again.begin(opened.session) == 2
    assert await again.begin(fresh.session) == 1
    await prove(again, old, recorded.logged)
    closed = await again.close_session(opened.session)
    assert Close.parse(closed.logged.statement).issuer == old.issuer
    await until_retired(attestor_process)
    await again.close_session(fresh.session)
    # The counter of starts is in both logs: nothing looks like an old copy; and the final head is named after another start too.
    await asyncio.to_thread(attestor_process.stop)
    await asyncio.to_thread(attestor_process.start)
    last = await attestor_process.connect()
    assert (await last.hello()).issuer == new.issuer
    await check_past(last, old, new, attestor_process.deployment)


@pytest.mark.tpm
async def test_a_rehearsal_changes_nothing(attestor_process: AttestorProcess) -> None:
    deployment = attestor_process.deployment
    gateway = await attestor_process.connect()
    old = await gateway.hello()
    opened = await gateway.open()
    before = {p.relative_to(deployment.state): p.read_bytes() for p in files(deployment)}
    assert (await act(deployment, "rehearse")).code is None
    assert "key.rotation_rehearsed" in attestor_process.events()
    assert {p.relative_to(deployment.state): p.read_bytes() for p in files(deployment)} == before
    await gateway.begin(opened.session)
    await gateway.record(opened.session, 1)
    assert verified(old, await gateway.open()).issuer == old.issuer


def files(deployment: Deployment) -> list[Path]:
    return [p for p in deployment.state.rglob("*") if p.is_file() and "ed.json" not in p.name]


@pytest.mark.tpm
async def test_retiring_closes_what_is_left(attestor_process: AttestorProcess) -> None:
    deployment = attestor_process.deployment
    assert (await act(deployment, "retire")).code == "rotation.none"
    gateway = await attestor_process.connect()
    old = await gateway.hello()
    opened = await gateway.open()
    await gateway.begin(opened.session)
    await act(deployment, "rotate")
    assert (await act(deployment, "retire")).sessions == 1
    await until_retired(attestor_process)
    log = deployment.state / "log" / f"{old.issuer.rpartition(':')[2]}.jsonl"
    kinds = [json.loads(line)["kind"] for line in log.read_text().splitlines()]
    assert kinds[-5:] == ["receipt", "close", "head", "tally", "head"]
    answer = await gateway.answer(gateway.send(messages.BeginExchange(id=99, session=opened.session)))
    assert isinstance(answer, messages.Failure)
    assert answer.code == "unknown_session"
    # What the old key had is closed once.
    assert await asyncio.to_thread(attestor_process.stop) == 0, attestor_process.output()
    assert audit(log.parent, None)[0] == []


@pytest.mark.tpm
async def test_what_stands_in_the_way_leaves_the_old_key_in_place(attestor_process: AttestorProcess) -> None:
    """There is no room for the next key: nothing has changed."""
    deployment = attestor_process.deployment
    gateway = await attestor_process.connect()
    old = await gateway.hello()
    obstacle = deployment.state / "attestation" / "instance-key.next.tss2.pem"
    obstacle.mkdir()
    assert (await act(deployment, "rotate")).code == "errno.21"
    assert (await act(deployment, "rehearse")).code == "errno.21"
    assert attestor_process.events().count("key.rotation_failed") == 2
    verified(old, await gateway.open())
    obstacle.rmdir()
    assert (await act(deployment, "rotate")).code is None


def test_a_crash_between_the_renames_is_put_right(tmp_path: Path) -> None:
    slots = FileSlots(tmp_path, tmp_path / "key.pem")
    slots.previous.write_text("old")
    slots.next.write_text("new")
    slots.recover()
    assert slots.current.read_text() == "new"
    assert slots.previous.read_text() == "old"
    slots.next.write_text("a rotation that was given up")
    slots.recover()
    assert slots.current.read_text() == "new"
    assert not slots.next.exists()


def test_asking_is_of_one_form(tmp_path: Path) -> None:
    for data in (b"", b"[]", b'{"action":"sign","id":"x"}', b'{"action":"rotate","id":"x","key":"y"}'):
        (tmp_path / "asked.json").write_bytes(data)
        assert asking.take(tmp_path) is None
    asked = asking.Asked("rotate", "a")
    asking.ask(tmp_path, asked)
    assert asking.take(tmp_path) == asked
    assert asking.take(tmp_path) is None
    asking.answer(tmp_path, asking.Asked("rotate", "b"), asking.Outcome())
    assert asking.answered(tmp_path, asked) is None


async def test_the_schedule_and_its_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "LOOK_S", 0.01)
    room = Room(tmp_path)
    await room.committer.sign_head()
    state = room.deployment.state
    settings = load(None, {}, {"state_dir": str(state), "attestation": {"insecure_software_key": True}})
    instances = Instances(
        settings, room.deployment.runtime / "facts", None, (), lambda: room.now, room.events
    )
    slots = FileSlots(state / "attestation", state / "attestation" / "key.pem")
    keeping = Rotation(room.server, instances, slots, settings.attestation, lambda: room.now, room.events)
    running = asyncio.create_task(keeping.run())
    try:
        await schedule(room)
        last = room.server.attestor.committer.journal
        assert last.predecessor is not None
        assert last.predecessor.issuer == room.issuer
        last.close()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await keeping.drain()
        room.committer.close()


async def schedule(room: Room) -> None:
    """The key of a room was made at 0; it is rotated at 90 days, unless the settings say otherwise."""
    day = 86400
    for days, expected in ((75, 0), (76, 1), (76, 1), (77, 2)):
        room.now = days * day
        await until(lambda expected=expected: room.event_names().count("key.rotation_due") >= expected)  # type: ignore[misc]
        await asyncio.sleep(0.1)  # some looks more: it says so once a day
        assert room.event_names().count("key.rotation_due") == expected, days
    assert "key.rotated" not in room.event_names()
    room.now = 90 * day
    await until(lambda: "key.retired" in room.event_names())
    assert "key.rotated" in room.event_names()
    assert room.server.attestor.issuer != room.issuer


# --- what is lost ---


@pytest.mark.tpm
async def test_a_tpm_that_was_cleared(attestor_process: AttestorProcess) -> None:
    """The key's hierarchy is gone. The attestor refuses to start; the way on is a new key, whose log names the old one's last head."""
    deployment = attestor_process.deployment
    gateway = await attestor_process.connect()
    old = await gateway.hello()
    await gateway.open()
    await asyncio.to_thread(attestor_process.stop)
    assert deployment.tpm is not None
    opened = Tpm(deployment.tpm.tcti)
    try:
        opened.esapi.clear(ESYS_TR.RH_LOCKOUT)
    finally:
        opened.close()
    with pytest.raises(AssertionError, match=r"tpm\.cleared"):
        await asyncio.to_thread(attestor_process.start)

    # The documented recovery: both key files go, the new AK is registered, the log stays.
    for name in ("instance-key.tss2.pem", "ak.tss2.pem", "enrolment.json"):
        (deployment.state / "attestation" / name).unlink()
    await asyncio.to_thread(deployment.enrol)
    await asyncio.to_thread(attestor_process.start)
    again = await attestor_process.connect()
    new = await again.hello()
    named = claims_of(new).predecessor
    assert named is not None
    assert (named.issuer, new.issuer != old.issuer) == (old.issuer, True)
    cose.parse_head(named.head).verify(jose.public_key(old.jwk))
    # Nobody could name this key: there is no word of continuity.
    continuity_dir = deployment.state / "attestation" / "continuity"
    assert continuity_of(continuity_dir, new.issuer.rpartition(":")[2]) is None


@pytest.mark.tpm
async def test_a_state_directory_that_was_lost(attestor_process: AttestorProcess) -> None:
    """Key, log and secret are gone: an instance without predecessor. An auditor who followed the old one finds `log.predecessor`."""
    deployment = attestor_process.deployment
    gateway = await attestor_process.connect()
    old = await gateway.hello()
    await gateway.open()
    kept = State(jwk=old.jwk, head=(await gateway.head()).head, start_count=claims_of(old).start_count)
    await asyncio.to_thread(attestor_process.stop)
    shutil.rmtree(deployment.state)
    await asyncio.to_thread(deployment.enrol)
    await asyncio.to_thread(attestor_process.start)
    again = await attestor_process.connect()
    new = await again.hello()
    claims = claims_of(new)
    assert claims.predecessor is None
    assert claims.start_count > claims_of(old).start_count, "the TPM has counted on"
    view = View(claims=claims, head=(await again.head()).head)
    report = follow(kept, view, claims.issued_at, None)
    assert [finding.code for finding in report.findings] == ["log.predecessor"]
    assert report.state == kept, "the auditor keeps what it knew"
    assert follow(None, view, claims.issued_at, None).findings == (), "and begins anew when told to"


@pytest.mark.tpm
async def test_a_crash_between_the_keys_and_the_logs(attestor_process: AttestorProcess) -> None:
    """The files of the keys had changed places, the logs not yet: the next start goes on from there."""
    deployment = attestor_process.deployment
    gateway = await attestor_process.connect()
    old = await gateway.hello()
    opened = await gateway.open()
    await act(deployment, "rotate")
    new = await gateway.answer(0)
    assert isinstance(new, messages.Welcome)
    await asyncio.to_thread(attestor_process.stop)
    log = deployment.state / "log"
    (log / f"{old.issuer.rpartition(':')[2]}.jsonl").replace(log / "log.jsonl")
    await asyncio.to_thread(attestor_process.start)

    again = await attestor_process.connect()
    welcome = await again.hello()
    assert welcome.issuer == new.issuer
    assert await again.begin(opened.session) == 1
    recorded = await again.record(opened.session, 1)
    assert Receipt.parse(recorded.logged.statement).issuer == old.issuer
    verified(welcome, await again.open())
    await again.close_session(opened.session)
    await until_retired(attestor_process)
    named = claims_of(await (await attestor_process.connect()).hello()).predecessor
    assert named is not None
    assert (
        cose.parse_head(named.head).tree_size == 5
    )  # session, tally of the stop, receipt, close, last tally
