"""What keeps a log one log: segments, the counter of starts, the clock, the export's limit, and what earlier instances left."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from fakes.attestor_process import AttestorProcess, Deployment, GatewaySide
from fakes.attestor_room import Room, running_room
from fakes.log_operator import Operator
from rlu_attestation import cose, jose
from rlu_attestation.instance import InstanceClaims
from rlu_attestation.log.gap import Gap
from rlu_attestation.merkle import leaf_hash, verify_consistency
from rlu_attestation.statements import Close, Receipt
from rlu_server import swtpm
from rlu_server.attestor import instances, messages
from rlu_server.attestor.errors import LogCorrupt, NotReady
from rlu_server.attestor.exporting import Exporting
from rlu_server.attestor.journal import Journal
from rlu_server.attestor.ledger import Ledger
from waiting import until

# --- segments ---


async def rotated(room: Room, gateway: GatewaySide, segments: int = 2) -> list[messages.SessionOpened]:
    """Sessions until so many segments are finished; the first has an exchange that was recorded, and one that is open."""
    opened = [await gateway.open()]
    session = opened[0].session
    await gateway.begin(session)
    await gateway.record(session, 1)
    await gateway.begin(session)
    while len(list(room.journal.tiles.parent.glob("*.0*.jsonl"))) < segments:
        ids = [gateway.send(gateway.opening()) for _ in range(300)]
        for request_id in ids:
            answer = await gateway.answer(request_id)
            assert isinstance(answer, messages.SessionOpened)
            opened.append(answer)
        await asyncio.sleep(0.05)
    return opened


async def test_a_log_in_segments_is_one_log(tmp_path: Path) -> None:
    async with running_room(tmp_path, segment_leaves=1024) as room:
        gateway = await room.greeted()
        first = cose.parse_head((await gateway.head()).head)
        opened = await rotated(room, gateway, 1)
        head = cose.parse_head((await gateway.head()).head)
        key = jose.public_key(jose.public_jwk(room.platform.public_key))
        for answer in (opened[0], opened[len(opened) // 2], opened[-1]):
            index = answer.logged.leaf_index
            proof = await gateway.ask(messages.Prove(id=gateway.next_id(), leaf_index=index), messages.Proof)
            cose.parse_inclusion(proof.receipt).verify(key, leaf_hash(answer.logged.statement))
        ask = messages.ProveConsistency(id=gateway.next_id(), old_size=1)
        receipt = cose.parse_consistency((await gateway.ask(ask, messages.Proof)).receipt)
        assert receipt.verify(key, leaf_hash(opened[0].logged.statement)) == head.root
        leaves = await gateway.ask(
            messages.ReadLeaves(id=gateway.next_id(), start=0, count=4096), messages.Leaves
        )
        assert leaves.leaves[:32] == leaf_hash(opened[0].logged.statement)
        assert len(leaves.leaves) == 32 * head.tree_size
        path = await gateway.ask(
            messages.ProvePath(id=gateway.next_id(), old_size=3, new_size=700), messages.Path
        )
        tree = room.ledger.tree
        verify_consistency(3, tree.root(3), 700, tree.root(700), path.path)
        assert first.tree_size == 0

    # A start reads the last segment only, and knows all sessions.
    journal = Journal(room.deployment.state / "log", room.issuer, jose.public_jwk(room.platform.public_key))
    assert journal.sealed >= 1024
    ledger = instances.open_ledger(room.issuer, journal, b"b" * 32)
    last, torn = instances.rebuild(ledger, journal, room.platform.public_key)
    journal.close()
    assert not torn
    assert last is not None
    assert (ledger.tree.size, ledger.tree.root()) == (room.ledger.tree.size, room.ledger.tree.root())
    assert ledger.sessions == len(opened)
    found = ledger._sessions[opened[0].session]
    before = room.ledger._sessions[opened[0].session]
    assert (found.leaf, found.running, found.count, found.last_seq) == (
        before.leaf,
        before.running,
        before.count,
        before.last_seq,
    )
    assert found.next_seq == 2
    assert (opened[0].session, 1) in ledger._recalled, "receipts before the cut can be asked for again"


async def test_a_full_disk_at_the_cut_lets_the_segment_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_room(tmp_path, segment_leaves=1024) as room:
        gateway = await room.greeted()

        def full(*arguments: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(room.journal, "rotate", full)
        ids = [gateway.send(gateway.opening()) for _ in range(1100)]
        for request_id in ids:
            assert isinstance(await gateway.answer(request_id), messages.SessionOpened)
        await until(lambda: "log.write_failed" in room.event_names())
        await gateway.open()
        assert room.ledger.tree.size == 1101


async def test_a_segment_without_its_beginning_refuses(tmp_path: Path) -> None:
    async with running_room(tmp_path, segment_leaves=1024) as room:
        await rotated(room, await room.greeted())
    log, jwk = room.deployment.state / "log", jose.public_jwk(room.platform.public_key)
    path = log / "log.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole.splitlines(keepends=True)[0])
    journal = Journal(log, room.issuer, jwk)
    ledger = instances.open_ledger(room.issuer, journal, b"b" * 32)
    with pytest.raises(LogCorrupt, match=r"log\.damaged"):
        instances.rebuild(ledger, journal, room.platform.public_key)
    journal.close()

    path.write_bytes(whole)
    (roots,) = log.glob("*/roots.bin")
    data = bytearray(roots.read_bytes())
    data[3] ^= 1
    roots.write_bytes(data)
    journal = Journal(log, room.issuer, jwk)
    ledger = instances.open_ledger(room.issuer, journal, b"b" * 32)
    with pytest.raises(LogCorrupt, match=r"log\.head"):
        instances.rebuild(ledger, journal, room.platform.public_key)
    journal.close()


# --- the counter of starts ---


class Counter:
    """A counter as hardware keeps it: it only rises, and does not care about files."""

    def __init__(self, value: int) -> None:
        self.value = value

    def raise_start_counter(self) -> int:
        self.value += 1
        return self.value


@pytest.mark.parametrize(
    ("known", "counter", "failed_starts", "code"),
    [
        (None, 9, 0, None),
        (5, 5, 0, None),
        (5, 7, 2, None),
        (5, 6, 0, "log.restored"),
        (5, 8, 2, "log.restored"),
        (5, 4, 0, "log.start_counter"),
        (5, 0, 3, "log.start_counter"),
    ],
)
def test_starts_that_the_log_does_not_know_of(
    tmp_path: Path, known: int | None, counter: int, failed_starts: int, code: str | None
) -> None:
    operator = Operator()
    journal = Journal(tmp_path, operator.issuer, operator.jwk)
    ledger = Ledger(operator.issuer, bytes, b"b" * 32)
    ledger.start_count = known
    for _ in range(failed_starts):  # tried, and ended before a head was signed
        journal.try_start()
    platform = Counter(counter)
    if code is None:
        assert instances.count_start(ledger, journal, platform) == counter + 1  # type: ignore[arg-type]
    else:
        with pytest.raises(LogCorrupt, match=code.replace(".", r"\.")):
            instances.count_start(ledger, journal, platform)  # type: ignore[arg-type]
    journal.close()


@pytest.mark.tpm
async def test_an_old_copy_of_the_log_does_not_start(deployment: Deployment, tmp_path: Path) -> None:
    process_ = AttestorProcess(deployment)
    with process_:
        gateway = await process_.connect()
        await gateway.hello()
        await gateway.open()
    log, copy = deployment.state / "log", tmp_path / "copy"
    shutil.copytree(log, copy)
    with process_:
        gateway = await process_.connect()
        await gateway.hello()
        await gateway.open()
    newest = tmp_path / "newest"
    shutil.copytree(log, newest)

    shutil.rmtree(log)
    shutil.copytree(copy, log)
    with pytest.raises(AssertionError, match=r"log\.restored"):
        AttestorProcess(deployment).start()
    # The newest one does, although the counter went on meanwhile: that start was tried with another copy, and the TPM counted it.
    shutil.rmtree(log)
    shutil.copytree(newest, log)
    with pytest.raises(AssertionError, match=r"log\.restored"):
        AttestorProcess(deployment).start()


@pytest.mark.tpm
async def test_a_tpm_that_was_cleared_holds_no_key_of_ours(
    deployment: Deployment, manufactured_tpm: Path
) -> None:
    with AttestorProcess(deployment) as process_:
        await (await process_.connect()).hello()
    tpm = deployment.tpm
    assert tpm is not None
    tpm.stop()
    state = tpm.directory / "tpm"
    shutil.rmtree(state)
    swtpm.manufacture(tpm.directory)
    tpm.start()
    with pytest.raises(AssertionError, match=r"tpm\.cleared"):
        AttestorProcess(deployment).start()


# --- the clock, and a signer that returns garbage ---


async def test_heads_do_not_go_back_in_time(tmp_path: Path) -> None:
    async with running_room(tmp_path) as room:
        gateway = await room.greeted()
        await gateway.open()
        room.now -= 100  # a correction of the clock
        await gateway.open()
        head = cose.parse_head((await gateway.head()).head)
        assert head.iat == 1_000_000
        room.now -= 100
        failure = await gateway.ask(gateway.opening(), messages.Failure)
        assert failure.code == "signer_unavailable"
        assert '"code": "clock.set_back"' in room.stream.getvalue()
        room.now += 300
        await gateway.open()
        assert cose.parse_head((await gateway.head()).head).iat == 1_000_100


async def test_receipt_and_close_are_not_older_than_their_session(tmp_path: Path) -> None:
    async with running_room(tmp_path) as room:
        gateway = await room.greeted()
        session = (await gateway.open()).session
        first, second = await gateway.begin(session), await gateway.begin(session)
        room.now -= 100  # a correction of the clock
        made = Receipt.parse((await gateway.record(session, first)).logged.statement)
        assert made.issued_at == 1_000_000
        assert second == 2, "open when the session is closed"
        closed = Close.parse((await gateway.close_session(session)).logged.statement)
        assert closed.issued_at == 1_000_000
        times = [line.get("iat") for line in map(json.loads, room.deployment.log.read_text().splitlines())]
        assert {time for time in times if time is not None} == {1_000_000}


async def test_a_signer_that_returns_garbage_gets_nothing_into_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_room(tmp_path) as room:
        gateway = await room.greeted()
        before = room.deployment.log.read_bytes()
        with monkeypatch.context() as patch:
            for garbage in (b"", bytes(64), b"\x01" * 64, b"\xff" * 64):
                patch.setattr(room.platform, "sign", lambda digest, garbage=garbage: garbage)
                failure = await gateway.ask(gateway.opening(), messages.Failure)
                assert failure.code == "signer_unavailable"
        assert room.deployment.log.read_bytes() == before
        assert '"code": "signature.invalid"' in room.stream.getvalue()
        await gateway.open()


async def test_a_head_is_signed_from_time_to_time_although_nothing_happens(tmp_path: Path) -> None:
    async with running_room(tmp_path) as room:
        gateway = await room.greeted()
        before = cose.parse_head((await gateway.head()).head)
        room.committer.beat(3600)
        await asyncio.sleep(0.05)
        assert cose.parse_head((await gateway.head()).head) == before
        room.now += 3600
        signed = room.committer.signed
        await until(lambda: room.committer.signed is not signed)
        assert len(room.lines("head")) == 2
        after = cose.parse_head((await gateway.head()).head)
        assert (after.tree_size, after.root, after.iat) == (before.tree_size, before.root, room.now)


# --- two gateways with one attestor ---


async def test_a_second_gateway_cannot_touch_the_sessions_of_the_first(tmp_path: Path) -> None:
    async with running_room(tmp_path) as room:
        first, second = await room.greeted(), await room.greeted()
        session = (await first.open()).session
        seq = await first.begin(session)
        attempts: list[messages.Message] = [
            messages.BeginExchange(id=second.next_id(), session=session),
            second.receipt(session, seq),
            messages.CloseSession(
                id=second.next_id(), session=session, reason="client_request", scratch="wiped"
            ),
        ]
        for attempt in attempts:
            assert (await second.ask(attempt, messages.Failure)).code == "unknown_session"
        await first.record(session, seq)
        own = (await second.open()).session
        assert own != session
        await second.disconnect()
        await until(lambda: room.ledger.sessions == 1)
        await first.close_session(session)


# --- the export's limit ---


async def test_sessions_are_refused_while_the_export_is_behind(tmp_path: Path) -> None:
    async with running_room(tmp_path, export_limit=3) as room:
        gateway = await room.greeted()
        opened = [await gateway.open() for _ in range(4)]
        failure = await gateway.ask(gateway.opening(), messages.Failure)
        assert failure.code == "export_behind"
        await gateway.begin(opened[0].session)  # what is open goes on
        await gateway.record(opened[0].session, 1)
        answer = await gateway.ask(messages.AckExport(id=gateway.next_id(), size=4), messages.Exported)
        assert (answer.exported, answer.tree_size) == (4, 5)
        await gateway.open()
        beyond = await gateway.ask(messages.AckExport(id=gateway.next_id(), size=99), messages.Failure)
        assert beyond.code == "not_in_log"
        back = await gateway.ask(messages.AckExport(id=gateway.next_id(), size=1), messages.Exported)
        assert back.exported == 4
        # Whoever lost the cursor begins again, and gets everything again.
        again = await gateway.ask(
            messages.ReadEntries(id=gateway.next_id(), start=0, count=10), messages.Entries
        )
        assert (again.start, len(again.entries)) == (0, 6)


async def test_or_what_waits_is_given_up_and_an_entry_says_so(tmp_path: Path) -> None:
    async with running_room(tmp_path, export_limit=3, when_behind="gap") as room:
        gateway = await room.greeted()
        for _ in range(6):
            await gateway.open()
        await until(lambda: room.exporting.exported == 6)
        (line,) = room.lines("gap")
        assert (line["first"], line["index"]) == (0, 6)
        answer = await gateway.ask(
            messages.ReadEntries(id=gateway.next_id(), start=0, count=10), messages.Entries
        )
        assert (answer.start, [entry.kind for entry in answer.entries]) == (6, ["gap"])
        assert (answer.entries[0].first, answer.tree_size) == (0, 7)
        await gateway.open()
        assert room.exporting.exported == 6
        assert len(room.lines("gap")) == 1


def test_the_gap_entry_is_signed_like_any_other() -> None:
    operator = Operator()
    gap = Gap(operator.issuer, 5, 0, 6, bytes(16))
    assert leaf_hash(gap.encode()) != leaf_hash(Gap(operator.issuer, 5, 1, 6, bytes(16)).encode())


async def test_the_cursor_survives_a_restart_and_belongs_to_its_instance(tmp_path: Path) -> None:
    made = Exporting(tmp_path, "urn:rlu:instance:one", 3, "refuse")
    made.acknowledge(5, 9)
    made.store()
    assert Exporting(tmp_path, "urn:rlu:instance:one", 3, "refuse").exported == 5
    assert Exporting(tmp_path, "urn:rlu:instance:two", 3, "refuse").exported == 0
    (tmp_path / "exported.json").write_text("[]")
    with pytest.raises(NotReady, match=r"export\.cursor"):
        Exporting(tmp_path, "urn:rlu:instance:one", 3, "refuse")


# --- what earlier instances left ---


async def test_an_earlier_instance_can_still_be_followed_to_its_end(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path, None)
    with AttestorProcess(deployment) as first:
        gateway = await first.connect()
        old = await gateway.hello()
        opened = await gateway.open()
        await gateway.open()
    with AttestorProcess(deployment) as second:  # a software key is another one each time
        gateway = await second.connect()
        new = await gateway.hello()
        claims = InstanceClaims.parse(jose.jws_parse(new.statement).payload)
        assert claims.predecessor is not None
        assert claims.predecessor.issuer == old.issuer
        listed = await gateway.ask(messages.History(id=gateway.next_id()), messages.Instances)
        (instance,) = listed.instances
        assert (instance.issuer, instance.jwk) == (old.issuer, old.jwk)
        final = cose.parse_head(claims.predecessor.head)
        ask = messages.ProveConsistency(id=gateway.next_id(), old_size=1, issuer=old.issuer)
        receipt = cose.parse_consistency((await gateway.ask(ask, messages.Proof)).receipt)
        root = receipt.verify(jose.public_key(old.jwk), leaf_hash(opened.logged.statement))
        assert (root, receipt.tree_size) == (final.root, final.tree_size)
        for size, issuer in ((9, old.issuer), (1, "urn:rlu:instance:" + "A" * 44)):
            ask = messages.ProveConsistency(id=gateway.next_id(), old_size=size, issuer=issuer)
            assert (await gateway.ask(ask, messages.Failure)).code == "not_in_log"


async def test_a_former_log_that_cannot_be_read_is_answered(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path, None)
    with AttestorProcess(deployment) as first:
        gateway = await first.connect()
        old = await gateway.hello()
        await gateway.open()
    with AttestorProcess(deployment) as second:
        gateway = await second.connect()
        await gateway.hello()
        (former,) = set(deployment.log.parent.glob("*.jsonl")) - {deployment.log}
        kept = former.rename(former.with_suffix(".kept"))
        former.mkdir()
        ask = messages.LatestHead(id=gateway.next_id(), issuer=old.issuer)
        refused = await gateway.ask(ask, messages.Failure)
        assert refused.code == "signer_unavailable"
        assert "log.read_failed" in second.events()
        former.rmdir()
        kept.rename(former)
        ask = messages.LatestHead(id=gateway.next_id(), issuer=old.issuer)
        head = await gateway.ask(ask, messages.Head)
        assert cose.parse_head(head.head).tree_size == head.tree_size
