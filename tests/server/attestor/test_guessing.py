"""Nothing that is kept or exported lets anyone guess content, not even one byte: by trying, against the real attestor's log."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from fakes.attestor_room import running_room
from rlu_attestation.commitment import Tag, commit, key_digest
from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.merkle import leaf_hash
from rlu_attestation.statements import Receipt
from rlu_server.attestor import messages
from rlu_server.export import records
from rlu_server.export.otlp import request
from rlu_server.export.sinks import lines

KEY = hashlib.sha256(b"the session's commitment key").digest()
PROMPTS = [bytes([n]) for n in range(256)] + [b"yes", b"no", b"hello", b"What is the capital of France?"]
CONTENT = b"y"
ANSWER = b"yes"


def digests(content: bytes) -> Iterator[bytes]:
    """What someone without the key could compute of a guess."""
    for name in ("md5", "sha1", "sha256", "sha384", "sha512", "sha3_256", "blake2b", "blake2s"):
        yield hashlib.new(name, content).digest()
    first = hashlib.sha256(content).digest()
    yield hashlib.sha256(first).digest()
    yield leaf_hash(content)
    yield leaf_hash(first)
    for key in (b"", bytes(32), content, b"rlu"):
        yield hmac.digest(key, content, "sha256")
    for tag in Tag:
        for session in (bytes(16), b"\x01" * 16):
            yield commit(bytes(32), tag, session, 1, len(content), first)


def spellings(digest: bytes) -> Iterator[bytes]:
    yield digest
    yield digest.hex().encode()
    yield digest.hex().upper().encode()
    yield base64.b64encode(digest).rstrip(b"=")
    yield base64.urlsafe_b64encode(digest).rstrip(b"=")
    yield b64u(digest[:12]).encode()  # even a part would do


def guessed(exported: bytes) -> list[bytes]:
    """The prompts of the list that the export gives away."""
    return [
        prompt
        for prompt in PROMPTS
        if any(spelling in exported for digest in digests(prompt) for spelling in spellings(digest))
    ]


async def test_a_one_byte_prompt_cannot_be_guessed_from_everything_exported(tmp_path: Path) -> None:
    async with running_room(tmp_path) as room:
        gateway = await room.greeted()
        opening = gateway.opening()
        ask = messages.OpenSession(
            id=opening.id,
            tenant="t",
            principal="p",
            nonce=None,
            cnf_jkt=None,
            commitment_key_digest=key_digest(KEY),
            opening=None,
            ttl_s=60,
        )
        opened = await gateway.ask(ask, messages.SessionOpened)
        session = unb64u(opened.session)
        seq = await gateway.begin(opened.session)

        def content(tag: Tag, data: bytes) -> messages.Commitment:
            digest = hashlib.sha256(data).digest()
            return messages.Commitment(len(data), commit(KEY, tag, session, seq, len(data), digest))

        report = messages.RecordReceipt(
            id=gateway.next_id(),
            session=opened.session,
            seq=seq,
            route="/v1/chat/completions",
            model="m",
            status="complete",
            http_status=200,
            request=content(Tag.REQUEST, CONTENT),
            forwarded=content(Tag.FORWARDED, CONTENT),
            rewritten=[],
            response=content(Tag.RESPONSE, ANSWER),
            usage=messages.Usage(1, 1),
            reason=None,
        )
        logged = (await gateway.ask(report, messages.ReceiptRecorded)).logged
        await gateway.close_session(opened.session)
        answer = await gateway.ask(messages.ReadEntries(id=99, start=0, count=99), messages.Entries)
        leaves = (await gateway.ask(messages.ReadLeaves(id=98, start=0, count=99), messages.Leaves)).leaves
        head = (await gateway.head()).head

    page = records.page(
        {
            "start": answer.start,
            "tree_size": answer.tree_size,
            "entries": [
                {
                    "leaf": b64u(e.leaf),
                    "kind": e.kind,
                    "iat": e.iat,
                    "status": e.status or None,
                    "usage": list(e.usage) if e.kind == "receipt" else None,
                    "first": None,
                }
                for e in answer.entries
            ],
        },
        room.issuer,
        0,
    )
    sent = [*page.records, records.head(head)]
    exported = b"\n".join(
        [
            lines(sent),
            json.dumps(request(sent)).encode(),
            leaves,
            b"".join(leaves[at : at + 32].hex().encode() for at in range(0, len(leaves), 32)),
            room.deployment.log.read_bytes(),
            room.stream.getvalue().encode(),
        ]
    )
    assert guessed(exported) == []
    assert CONTENT not in {bytes(str(value), "utf-8") for record in sent for value in record.values()}
    # Sizes and exact counts, from which short content could be told, are not in it either: one bucket holds them all.
    assert [record["usage"] for record in sent if record["kind"] == "receipt"] == [[1, 1, 0]]

    # The search would have found something: a plain digest in an export is found, in every spelling.
    for spelling in spellings(hashlib.sha256(CONTENT).digest()):
        assert guessed(exported + spelling) == [CONTENT]

    # Not even whoever knows everything but the blind can test a guess on a leaf; whoever has the receipt can.
    receipt = Receipt.parse(logged.statement)
    assert leaf_hash(receipt.encode()) in leaves
    for blind in (bytes(16), b"\xff" * 16, hashlib.sha256(CONTENT).digest()[:16]):
        assert leaf_hash(replace(receipt, blind=blind).encode()) not in leaves


def test_the_search_sees_what_is_planted() -> None:
    for prompt in (b"y", b"hello"):
        for digest in digests(prompt):
            assert prompt in guessed(b"noise " + base64.b64encode(digest) + b" noise")
