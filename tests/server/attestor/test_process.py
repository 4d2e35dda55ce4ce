"""The attestor process on a software TPM, seen from its socket and its disk."""

from __future__ import annotations

import asyncio
import json
import signal
from datetime import datetime, timezone
from pathlib import Path

import pytest

from fakes.attestor_process import INSTANCE_FACTS, AttestorProcess, Deployment, GatewaySide
from rlu_attestation import cose, jose, x509
from rlu_attestation.encoding import unb64u
from rlu_attestation.evidence.tpm2 import item, steps
from rlu_attestation.instance import InstanceClaims, binding, claims_bytes
from rlu_attestation.merkle import Tree, leaf_hash, verify_consistency
from rlu_attestation.statements import Close, Receipt, SessionStatement, running_next, running_start
from rlu_attestation.tpm import checks
from rlu_server import swtpm
from rlu_server.attestor import messages, records
from waiting import PATIENCE_S, until

pytestmark = pytest.mark.tpm


def leaves(log: Path) -> list[dict[str, object]]:
    """Of a log that may be written meanwhile: its last line may still be on its way."""
    whole, _, _ = log.read_text().rpartition("\n")
    return [line for line in map(json.loads, whole.splitlines()) if "leaf" in line]


async def verified_head(gateway: GatewaySide, welcome: messages.Welcome) -> cose.SignedHead:
    head = cose.parse_head((await gateway.head()).head)
    head.verify(jose.public_key(welcome.jwk))
    return head


async def test_evidence_proves_the_key_and_binds_the_statement(attestor_process: AttestorProcess) -> None:
    gateway = await attestor_process.connect()
    welcome = await gateway.hello()
    nonce = b"a nonce of ours!"
    attestation = await gateway.ask(messages.Attest(id=9, nonce=nonce), messages.Attestation)
    statement = jose.jws_parse(attestation.statement)
    key = jose.public_key(welcome.jwk)
    jose.verify_es256(key, statement.signing_input, statement.signature)
    claims = InstanceClaims.parse(statement.payload)
    assert claims.nonce == nonce
    assert claims.issuer == welcome.issuer
    assert claims.key_hardware == "tpm2"
    assert claims.start_count >= 1
    assert claims.region == INSTANCE_FACTS["region"]

    (evidence,) = attestation.evidence
    parsed = item.parse(evidence.data)
    now = datetime.now(timezone.utc)
    deployment = attestor_process.deployment
    assert deployment.tpm is not None
    roots = x509.parse_many(swtpm.root_certificate(deployment.tpm.directory).read_bytes())
    registrars = x509.parse_many((deployment.registrar / "registrar.crt.pem").read_bytes())
    steps.verify_ek_chain(parsed, roots, now)
    assert steps.verify_ak_certificate(parsed, registrars, now).site == "desk"
    checks.verify_ak_attributes(parsed)
    assert checks.verify_key_attributes(parsed) == key
    checks.verify_key_policy(parsed)
    checks.verify_key_certify(parsed)
    checks.verify_quote_signature(parsed)
    checks.verify_quote_binding(parsed, binding(claims_bytes(claims.to_json())))
    checks.verify_quote_pcrs(parsed)
    checks.verify_quote_clock(parsed)


async def test_a_session_from_opening_to_close(attestor_process: AttestorProcess) -> None:
    gateway = await attestor_process.connect()
    welcome = await gateway.hello()
    key = jose.public_key(welcome.jwk)
    opened = await gateway.open()
    cose.parse_inclusion(opened.receipt).verify(key, leaf_hash(opened.logged.statement))
    session = SessionStatement.parse(opened.logged.statement)
    assert session.session == opened.session
    assert session.instance == welcome.profile_digest

    assert [await gateway.begin(opened.session) for _ in range(3)] == [1, 2, 3]
    running = running_start(opened.logged.statement)
    for seq in (2, 1, 3):
        logged = (await gateway.record(opened.session, seq)).logged
        receipt = Receipt.parse(logged.statement)
        assert (receipt.seq, receipt.session_leaf) == (seq, leaf_hash(opened.logged.statement))
        running = running_next(running, leaf_hash(logged.statement))
    closed = (await gateway.close_session(opened.session)).logged
    close = Close.parse(closed.statement)
    assert (close.last_seq, close.count, close.running) == (3, 3, running)
    proof = await gateway.ask(messages.Prove(id=99, leaf_index=closed.leaf_index), messages.Proof)
    cose.parse_inclusion(proof.receipt).verify(key, leaf_hash(closed.statement))


async def test_heads_are_consistent_over_a_restart_and_sessions_survive(deployment: Deployment) -> None:
    process = AttestorProcess(deployment).start()
    gateway = await process.connect()
    welcome = await gateway.hello()
    opened = await gateway.open()
    assert await gateway.begin(opened.session) == 1
    await gateway.record(opened.session, 1)
    assert await gateway.begin(opened.session) == 2  # begun, never recorded
    before = await verified_head(gateway, welcome)
    assert process.stop() == 0

    with process:
        gateway = await process.connect()
        again = await gateway.hello()
        assert again.jwk == welcome.jwk
        assert again.profile_digest == welcome.profile_digest
        claims = InstanceClaims.parse(jose.jws_parse(again.statement).payload)
        first = InstanceClaims.parse(jose.jws_parse(welcome.statement).payload)
        assert claims.start_count == first.start_count + 1
        assert await gateway.begin(opened.session) == 2
        await gateway.record(opened.session, 2)
        after = await verified_head(gateway, welcome)
        request = messages.ProveConsistency(id=50, old_size=before.tree_size)
        proof = cose.parse_consistency((await gateway.ask(request, messages.Proof)).receipt)
        verify_consistency(before.tree_size, before.root, after.tree_size, after.root, proof.path)
        close = Close.parse((await gateway.close_session(opened.session)).logged.statement)
        assert (close.last_seq, close.count) == (2, 2)


async def test_killed_under_load_it_forgets_nothing_it_had_answered(deployment: Deployment) -> None:
    process = AttestorProcess(deployment).start()
    gateway = await process.connect()
    welcome = await gateway.hello()
    key = jose.public_key(welcome.jwk)
    opened = await gateway.open()
    answered: list[messages.Logged] = [opened.logged]
    tree_size = 0

    async def load() -> None:
        nonlocal tree_size
        while True:
            ids = [
                gateway.send(messages.BeginExchange(id=gateway.next_id(), session=opened.session))
                for _ in range(40)
            ]
            seqs = []
            for request_id in ids:
                begun = await gateway.answer(request_id)
                assert isinstance(begun, messages.ExchangeBegun)
                seqs.append(begun.seq)
            for request_id in [gateway.send(gateway.receipt(opened.session, seq)) for seq in seqs]:
                recorded = await gateway.answer(request_id)
                assert isinstance(recorded, messages.ReceiptRecorded)
                answered.append(recorded.logged)
            head = await verified_head(gateway, welcome)
            tree_size = head.tree_size

    task = asyncio.create_task(load())
    await until(lambda: len(answered) > 80 or task.done())
    process.stop(signal.SIGKILL)
    with pytest.raises((asyncio.IncompleteReadError, OSError)):
        await task
    assert len(answered) > 80

    with process:
        gateway = await process.connect()
        assert (await gateway.hello()).jwk == welcome.jwk
        head = await verified_head(gateway, welcome)
        assert head.tree_size >= max(tree_size, max(logged.leaf_index for logged in answered) + 1)
        for logged in (answered[0], answered[len(answered) // 2], answered[-1]):
            proof = await gateway.ask(
                messages.Prove(id=gateway.next_id(), leaf_index=logged.leaf_index), messages.Proof
            )
            cose.parse_inclusion(proof.receipt).verify(key, leaf_hash(logged.statement))
        again = await gateway.record(opened.session, Receipt.parse(answered[-1].statement).seq)
        assert again.logged == answered[-1]
        # Whether or not the last batch got through: the next number is the one after the last that did.
        assert await gateway.begin(opened.session) >= len(answered)
        await gateway.close_session(opened.session)


async def test_a_torn_tail_is_dropped_and_damage_before_it_refuses(deployment: Deployment) -> None:
    process = AttestorProcess(deployment).start()
    gateway = await process.connect()
    welcome = await gateway.hello()
    opened = await gateway.open()
    process.stop()
    whole = deployment.log.read_bytes()
    deployment.log.write_bytes(whole + b'{"index":1,"kind":"receipt","leaf":"AAAA')
    with process:
        gateway = await process.connect()
        await gateway.hello()
        assert await gateway.begin(opened.session) == 1
        assert (
            await verified_head(gateway, welcome)
        ).tree_size == 2  # the session, and the tally of the stop
    assert "log.tail_dropped" in process.events()

    lines = deployment.log.read_text().splitlines(keepends=True)
    head = cose.parse_head(unb64u(json.loads(lines[-1])["head"]))
    forged = cose.assemble_head(head.protected, head.root, bytes(63) + b"\x01")
    deployment.log.write_text("".join(lines[:-1]) + records.head_line(forged, head.tree_size).decode())
    with pytest.raises(AssertionError, match=r"log\.head"):
        AttestorProcess(deployment).start()
    deployment.log.write_text("".join(lines))

    damaged = bytearray(deployment.log.read_bytes())
    damaged[damaged.index(b'"leaf":"') + 12] ^= 0x01
    deployment.log.write_bytes(damaged)
    with pytest.raises(AssertionError, match=r"log\.head"):
        AttestorProcess(deployment).start()


async def test_the_tpm_goes_away_and_comes_back(attestor_process: AttestorProcess) -> None:
    tpm = attestor_process.deployment.tpm
    assert tpm is not None
    gateway = await attestor_process.connect()
    await gateway.hello()
    opened = await gateway.open()
    seq = await gateway.begin(opened.session)
    tpm.stop()
    failure = await gateway.ask(gateway.opening(), messages.Failure)
    assert failure.code == "signer_unavailable"
    failure = await gateway.ask(gateway.receipt(opened.session, seq), messages.Failure)
    assert failure.code == "signer_unavailable"
    failure = await gateway.ask(messages.Attest(id=77, nonce=b"n" * 8), messages.Failure)
    assert failure.code == "signer_unavailable"
    tpm.start()
    await gateway.open()
    logged = (await gateway.record(opened.session, seq)).logged
    assert Receipt.parse(logged.statement).seq == seq
    await gateway.ask(messages.Attest(id=78, nonce=b"n" * 8), messages.Attestation)
    events = attestor_process.events()
    assert "signer.failed" in events
    assert "signer.recovered" in events


async def test_a_lost_gateway_leaves_failed_receipts_and_closes(attestor_process: AttestorProcess) -> None:
    gateway = await attestor_process.connect()
    await gateway.hello()
    opened = await gateway.open()
    await gateway.begin(opened.session)
    await gateway.begin(opened.session)
    await gateway.disconnect()
    log = attestor_process.deployment.log
    await until(lambda: len(leaves(log)) >= 4)
    kinds = [(leaf["kind"], leaf.get("seq")) for leaf in leaves(log)]
    assert kinds == [("session", None), ("receipt", 1), ("receipt", 2), ("close", None)]
    gateway = await attestor_process.connect()
    await gateway.hello()
    request = messages.BeginExchange(id=5, session=opened.session)
    assert (await gateway.ask(request, messages.Failure)).code == "unknown_session"


async def test_sigterm_answers_what_was_asked_and_keeps_sessions_open(deployment: Deployment) -> None:
    process = AttestorProcess(deployment).start()
    gateway = await process.connect()
    welcome = await gateway.hello()
    opened = await gateway.open()
    ids = [gateway.send(gateway.opening()) for _ in range(200)]
    await gateway.answer(ids[0])
    stopping = asyncio.get_running_loop().run_in_executor(None, process.stop)
    for request_id in ids[1:]:
        assert isinstance(await gateway.answer(request_id), messages.SessionOpened)
    assert await stopping == 0
    lines = [json.loads(line) for line in deployment.log.read_text().splitlines()]
    assert lines[-1]["kind"] == "head"
    assert lines[-1]["size"] == 202  # with a tally at the end
    assert not any(line["kind"] == "close" for line in lines)
    tree = Tree()
    for leaf in leaves(deployment.log):
        tree.append(unb64u(str(leaf["leaf"])))
    head = cose.parse_head(unb64u(lines[-1]["head"]))
    head.verify(jose.public_key(welcome.jwk))
    assert head.root == tree.root()
    assert leaves(deployment.log)[0]["session"] == opened.session


async def test_another_key_starts_another_log_that_names_the_old_one(deployment: Deployment) -> None:
    process = AttestorProcess(deployment).start()
    gateway = await process.connect()
    welcome = await gateway.hello()
    await gateway.open()
    old = await verified_head(gateway, welcome)
    process.stop()
    (deployment.state / "attestation" / "instance-key.tss2.pem").unlink()
    with process:
        gateway = await process.connect()
        again = await gateway.hello()
        assert again.issuer != welcome.issuer
        claims = InstanceClaims.parse(jose.jws_parse(again.statement).payload)
        assert claims.predecessor is not None
        assert claims.predecessor.issuer == welcome.issuer
        named = cose.parse_head(claims.predecessor.head)
        named.verify(jose.public_key(welcome.jwk))
        assert named.tree_size == old.tree_size + 1  # it ended with a tally
        ended = deployment.log.with_name(f"{welcome.issuer.rpartition(':')[2]}.jsonl")
        tree = Tree()
        for leaf in leaves(ended):
            tree.append(unb64u(str(leaf["leaf"])))
        assert (tree.root(old.tree_size), tree.root()) == (old.root, named.root)
        assert (await verified_head(gateway, again)).tree_size == 0


def test_an_enrolment_of_another_ak_is_refused(deployment: Deployment) -> None:
    (deployment.state / "attestation" / "ak.tss2.pem").unlink()
    with pytest.raises(AssertionError, match=r"enrolment\.other_ak"):
        AttestorProcess(deployment).start()


PATIENT = """
from pathlib import Path
from rlu_server.attestor import server

async def told(self, close=server.Server.close_connections):
    Path({marker!r}).touch()
    await close(self)

server.LINGER_S = {patience_s}
server.Server.close_connections = told
"""


async def test_a_slow_reader_gets_its_last_answers(deployment: Deployment) -> None:
    """Slow, not too slow: how long that may take is not what is tested, so that the attestor here has the patience of a test."""
    lingering = deployment.directory / "lingering"
    before = PATIENT.format(marker=str(lingering), patience_s=PATIENCE_S)
    process = AttestorProcess(deployment, before=before).start()
    gateway = await process.connect()
    await gateway.hello()
    gateway.writer.transport.pause_reading()  # type: ignore[attr-defined]
    ids = [gateway.send(gateway.opening()) for _ in range(3000)]
    while len(leaves(deployment.log)) < len(ids):
        await asyncio.sleep(0.01)
    stopping = asyncio.get_running_loop().run_in_executor(None, process.stop)
    await until(lingering.exists)
    gateway.writer.transport.resume_reading()  # type: ignore[attr-defined]
    for request_id in ids:
        assert isinstance(await gateway.answer(request_id), messages.SessionOpened)
    assert await stopping == 0
    # Group commit: thousands of leaves under a handful of signatures.
    assert sum('"kind":"head"' in line for line in deployment.log.read_text().splitlines()) < 300


def test_only_one_attestor_has_a_log(attestor_process: AttestorProcess) -> None:
    settings = attestor_process.deployment
    other = Deployment(settings.directory / "other", None)
    other.config.write_text(other.config.read_text().replace(str(other.state), str(settings.state)))
    with pytest.raises(AssertionError, match=r"log\.in_use"):
        AttestorProcess(other).start()


def test_a_second_attestor_touches_nothing_of_the_first(tmp_path: Path) -> None:
    """Which may be in the middle of a rotation: the next key is there, and the ages have changed places."""
    with AttestorProcess(Deployment(tmp_path / "first", None)) as first:
        state = first.deployment.state
        keys = state / "attestation"
        (keys / "instance-key.next.tss2.pem").write_text("the next key")
        (keys / "key.json").rename(keys / "key.previous.json")
        before = {path: path.read_bytes() for path in state.rglob("*") if path.is_file()}
        other = Deployment(tmp_path / "second", None)
        other.config.write_text(other.config.read_text().replace(str(other.state), str(state)))
        with pytest.raises(AssertionError, match=r"log\.in_use"):
            AttestorProcess(other).start()
        assert {path: path.read_bytes() for path in state.rglob("*") if path.is_file()} == before
