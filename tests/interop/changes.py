"""Single changes to a bundle, each of which every verifier must refuse."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cbor2

from rlu_attestation.encoding import b64u, unb64u

Document = dict[str, Any]
Change = Callable[[Document, Document], Document | bytes]
PROOFS, INCLUSION, SIZE = 396, -1, -65537

CHANGES: dict[str, Change] = {}


def change(made: Change) -> Change:
    """A change of the first bundle; the second is of the same server, and as good."""
    CHANGES[made.__name__.replace("_", " ")] = made
    return made


def apply(name: str, document: Document, other: Document) -> bytes:
    made = CHANGES[name](copy.deepcopy(document), copy.deepcopy(other))
    return made if isinstance(made, bytes) else json.dumps(made).encode()


def flipped(text: str, position: int = -1) -> str:
    data = bytearray(unb64u(text))
    data[position] ^= 1
    return b64u(bytes(data))


@dataclass
class Proof:
    """A COSE Receipt of inclusion, taken apart."""

    protected: dict[Any, Any]
    size: int
    index: int
    path: list[bytes]
    signature: bytes

    @classmethod
    def of(cls, text: str) -> Proof:
        protected, unprotected, payload, signature = cbor2.loads(unb64u(text)).value
        assert payload is None
        size, index, path = cbor2.loads(unprotected[PROOFS][INCLUSION][0])
        return cls(dict(cbor2.loads(protected)), size, index, list(path), signature)

    def encode(self) -> str:
        proof = cbor2.dumps([self.size, self.index, self.path])
        members = [cbor2.dumps(self.protected), {PROOFS: {INCLUSION: [proof]}}, None, self.signature]
        return b64u(cbor2.dumps(cbor2.CBORTag(18, members)))


def proof_changed(document: Document, how: Callable[[Proof], None]) -> Document:
    """The receipt of the first exchange, changed and encoded as it was."""
    exchange = document["exchanges"][0]
    proof = Proof.of(exchange["receipt"])
    assert proof.encode() == exchange["receipt"]
    assert proof.path
    how(proof)
    exchange["receipt"] = proof.encode()
    return document


def statement_changed(document: Document, part: Document, how: Callable[[Document], None]) -> Document:
    """A statement in the log that says something else, in canonical form."""
    claims = json.loads(unb64u(part["statement"]))
    how(claims)
    part["statement"] = b64u(json.dumps(claims, sort_keys=True, separators=(",", ":")).encode())
    return document


# --- the instance statement and its evidence ---


@change
def flipped_signature_of_the_statement(document: Document, _: Document) -> Document:
    statement = document["attestation"]["statement"]
    signed, _, signature = statement.rpartition(".")
    document["attestation"]["statement"] = f"{signed}.{flipped(signature)}"
    return document


@change
def another_claim_in_the_statement(document: Document, _: Document) -> Document:
    header, payload, signature = document["attestation"]["statement"].split(".")
    said = unb64u(payload).replace(b'"oemboot":', b'"oembooT":')
    document["attestation"]["statement"] = f"{header}.{b64u(said)}.{signature}"
    return document


@change
def white_space_in_the_statement(document: Document, _: Document) -> Document:
    header, payload, signature = document["attestation"]["statement"].split(".")
    document["attestation"]["statement"] = f"{header}.{b64u(b' ' + unb64u(payload))}.{signature}"
    return document


@change
def statement_for_another_nonce(document: Document, other: Document) -> Document:
    document["attestation"] = other["attestation"]
    return document


@change
def evidence_of_another_statement(document: Document, other: Document) -> Document:
    document["attestation"]["evidence"] = other["attestation"]["evidence"]
    return document


@change
def another_nonce(document: Document, other: Document) -> Document:
    document["nonce"] = other["nonce"]
    return document


@change
def another_channel(document: Document, _: Document) -> Document:
    document["channel"]["spki_sha256"] = flipped(document["channel"]["spki_sha256"])
    return document


@change
def no_evidence(document: Document, _: Document) -> Document:
    document["attestation"]["evidence"] = []
    return document


@change
def evidence_twice(document: Document, _: Document) -> Document:
    document["attestation"]["evidence"] *= 2
    return document


@change
def evidence_of_another_kind(document: Document, _: Document) -> Document:
    document["attestation"]["evidence"][0]["kind"] = "gcp-vtpm"
    return document


@change
def flipped_signature_of_the_quote(document: Document, _: Document) -> Document:
    item = document["attestation"]["evidence"][0]
    said = json.loads(unb64u(item["data"]))
    said["quote"]["signature"] = flipped(said["quote"]["signature"])
    item["data"] = b64u(json.dumps(said, sort_keys=True, separators=(",", ":")).encode())
    return document


@change
def evidence_in_another_spelling(document: Document, _: Document) -> Document:
    item = document["attestation"]["evidence"][0]
    item["data"] = b64u(json.dumps(json.loads(unb64u(item["data"]))).encode())
    return document


# --- the session and its receipts ---


@change
def session_of_another_bundle(document: Document, other: Document) -> Document:
    document["session"] = other["session"]
    return document


@change
def no_session(document: Document, _: Document) -> Document:
    del document["session"]
    return document


@change
def session_says_another_tenant(document: Document, _: Document) -> Document:
    return statement_changed(document, document["session"], lambda said: said.update(rlu_tenant="another"))


@change
def white_space_in_the_session(document: Document, _: Document) -> Document:
    part = document["session"]
    part["statement"] = b64u(unb64u(part["statement"]).replace(b",", b", ", 1))
    return document


@change
def another_commitment_key(document: Document, other: Document) -> Document:
    document["commitment_key"] = other["commitment_key"]
    return document


@change
def exchange_of_another_session(document: Document, other: Document) -> Document:
    document["exchanges"] = other["exchanges"]
    return document


@change
def no_commitment_key(document: Document, _: Document) -> Document:
    del document["commitment_key"]
    return document


@change
def no_nonce(document: Document, _: Document) -> Document:
    del document["nonce"]
    return document


@change
def no_channel(document: Document, _: Document) -> Document:
    del document["channel"]
    return document


@change
def no_exchange(document: Document, _: Document) -> Document:
    del document["exchanges"]
    return document


@change
def no_response(document: Document, _: Document) -> Document:
    del document["exchanges"][0]["response"]
    return document


@change
def exchange_twice(document: Document, _: Document) -> Document:
    document["exchanges"] *= 2
    return document


@change
def receipt_says_another_status(document: Document, _: Document) -> Document:
    return statement_changed(
        document, document["exchanges"][0], lambda said: said.update(rlu_status="partial")
    )


@change
def another_request(document: Document, _: Document) -> Document:
    exchange = document["exchanges"][0]
    exchange["request"] = flipped(exchange["request"])
    return document


@change
def shorter_request(document: Document, _: Document) -> Document:
    exchange = document["exchanges"][0]
    exchange["request"] = b64u(unb64u(exchange["request"])[:-1])
    return document


@change
def another_response(document: Document, _: Document) -> Document:
    exchange = document["exchanges"][0]
    exchange["response"] = flipped(exchange["response"])
    return document


@change
def request_and_response_swapped(document: Document, _: Document) -> Document:
    exchange = document["exchanges"][0]
    exchange["request"], exchange["response"] = exchange["response"], exchange["request"]
    return document


@change
def receipts_swapped(document: Document, _: Document) -> Document:
    session, exchange = document["session"], document["exchanges"][0]
    session["receipt"], exchange["receipt"] = exchange["receipt"], session["receipt"]
    return document


@change
def close_of_another_session(document: Document, other: Document) -> Document:
    document["close"] = other["close"]
    return document


@change
def close_says_another_count(document: Document, _: Document) -> Document:
    return statement_changed(document, document["close"], lambda said: said.update(rlu_count=2))


@change
def receipt_instead_of_the_close(document: Document, _: Document) -> Document:
    document["close"] = {name: document["exchanges"][0][name] for name in ("receipt", "statement")}
    return document


# --- proofs and heads ---


@change
def dropped_node(document: Document, _: Document) -> Document:
    return proof_changed(document, lambda proof: proof.path.pop())


@change
def further_node(document: Document, _: Document) -> Document:
    return proof_changed(document, lambda proof: proof.path.append(bytes(32)))


@change
def flipped_node(document: Document, _: Document) -> Document:
    def how(proof: Proof) -> None:
        proof.path[0] = bytes([proof.path[0][0] ^ 1]) + proof.path[0][1:]

    return proof_changed(document, how)


@change
def another_place(document: Document, _: Document) -> Document:
    def how(proof: Proof) -> None:
        proof.index ^= 1

    return proof_changed(document, how)


@change
def another_tree_size_in_the_proof(document: Document, _: Document) -> Document:
    def how(proof: Proof) -> None:
        proof.size += 1

    return proof_changed(document, how)


@change
def another_tree_size_in_both(document: Document, _: Document) -> Document:
    def how(proof: Proof) -> None:
        proof.size += 1
        proof.protected[SIZE] += 1

    return proof_changed(document, how)


@change
def another_time_of_the_head(document: Document, _: Document) -> Document:
    def how(proof: Proof) -> None:
        proof.protected[15][6] += 1

    return proof_changed(document, how)


@change
def flipped_signature_of_a_receipt(document: Document, _: Document) -> Document:
    exchange = document["exchanges"][0]
    exchange["receipt"] = flipped(exchange["receipt"])
    return document


@change
def receipt_without_its_tag(document: Document, _: Document) -> Document:
    exchange = document["exchanges"][0]
    exchange["receipt"] = b64u(unb64u(exchange["receipt"])[1:])
    return document


@change
def receipt_with_a_longer_length(document: Document, _: Document) -> Document:
    exchange = document["exchanges"][0]
    data = unb64u(exchange["receipt"])
    assert data[:3] == b"\xd2\x84\x58"
    exchange["receipt"] = b64u(data[:2] + b"\x59\x00" + data[3:])
    return document


@change
def flipped_signature_of_the_head(document: Document, _: Document) -> Document:
    document["head"] = flipped(document["head"])
    return document


@change
def head_of_an_earlier_log(document: Document, _: Document) -> Document:
    """The session's own receipt holds a signature over a smaller tree, which has a root of its own."""
    part = document["session"]
    proof = Proof.of(part["receipt"])
    assert proof.size == proof.index + 1
    root = hashlib.sha256(b"\0" + unb64u(part["statement"])).digest()
    for node in proof.path:  # the last leaf: everything else is on its left
        root = hashlib.sha256(b"\1" + node + root).digest()
    members = [cbor2.dumps(proof.protected), {}, root, proof.signature]
    document["head"] = b64u(cbor2.dumps(cbor2.CBORTag(18, members)))
    return document


@change
def another_root_in_the_head(document: Document, _: Document) -> Document:
    head = cbor2.loads(unb64u(document["head"]))
    protected, unprotected, root, signature = head.value
    members = [protected, unprotected, bytes([root[0] ^ 1]) + root[1:], signature]
    document["head"] = b64u(cbor2.dumps(cbor2.CBORTag(18, members)))
    return document


@change
def receipt_instead_of_the_head(document: Document, _: Document) -> Document:
    document["head"] = document["close"]["receipt"]
    return document


# --- the file ---


@change
def another_version(document: Document, _: Document) -> Document:
    return {**document, "rlu_bundle": "2"}


@change
def unknown_key(document: Document, _: Document) -> Document:
    return {**document, "comment": "trust me"}


@change
def unknown_key_of_an_exchange(document: Document, _: Document) -> Document:
    document["exchanges"][0]["comment"] = "trust me"
    return document


@change
def duplicate_key(document: Document, _: Document) -> bytes:
    return b'{"rlu_bundle":"1",' + json.dumps(document).encode()[1:]


@change
def something_follows(document: Document, _: Document) -> bytes:
    return json.dumps(document).encode() + b"{}"


@change
def cut_short(document: Document, _: Document) -> bytes:
    return json.dumps(document).encode()[:-2]


@change
def byte_order_mark(document: Document, _: Document) -> bytes:
    return b"\xef\xbb\xbf" + json.dumps(document).encode()


@change
def padded_base64(document: Document, _: Document) -> Document:
    document["commitment_key"] += "="
    return document


@change
def null_instead_of_absent(document: Document, _: Document) -> Document:
    return {**document, "policy": None}


@change
def no_statement(document: Document, _: Document) -> Document:
    del document["attestation"]["statement"]
    return document
