"""The follower's side of the network: asks a server for what `log.follow` needs, and trusts nothing that comes back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from rlu_attestation import answers, cose
from rlu_attestation.bundle import Bundle, Logged
from rlu_attestation.claims import Members
from rlu_attestation.client import Answer, Client
from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.errors import Malformed, RluError
from rlu_attestation.instance import InstanceClaims
from rlu_attestation.log.follow import Seen, View, compared
from rlu_attestation.log.state import State
from rlu_attestation.merkle import HASH_SIZE

LEAVES = 4096
"""Leaf hashes asked for at once."""
MAX_ENTRIES = 1024
NOT_THERE = 404


class LogClient(Client):
    """A connection to one server, for one API key.

    Raises:
        RluError: from every method, as `Client`.
    """

    def __init__(self, url: str, api_key: str) -> None:
        super().__init__(url)
        self._api_key = api_key

    def __enter__(self) -> LogClient:
        return self

    def view(
        self, claims: InstanceClaims, state: State | None, *, entries: bool, held: Sequence[Logged] = ()
    ) -> View:
        """What the server shows of its log.

        Args:
            claims: the instance's, verified.
            state: what is known of the log.
            entries: read every leaf hash that is new.
            held: statements with their receipts, to be looked up.
        """
        same = state is not None and state.issuer == claims.issuer
        proof = handover = ending = head = leaves = None
        former, named = None if state is None else state.former, claims.predecessor
        if same and former is not None and named is not None and named.head != former.head:
            ending = self.consistency(former.latest.tree_size, former.issuer)
        if state is not None and state.latest.tree_size:
            encoded = self.consistency(state.latest.tree_size, None if same else state.issuer)
            proof, handover = (encoded, None) if same else (None, encoded)
        if proof is None or not _holds(state, proof):
            head = self.head()
        if entries:
            start = state.latest.tree_size if same and state is not None and state.frontier is not None else 0
            leaves = self.leaves(start, _size(proof, head))
        seen = tuple(Seen(item.statement, item.receipt, self._now(item)) for item in held)
        return View(
            claims=claims,
            head=head,
            proof=proof,
            leaves=leaves,
            handover=handover,
            ending=ending,
            seen=seen,
        )

    def path_between(self, state: State, other: State) -> Sequence[bytes] | None:
        """The proof that `log.follow.compare` asks for; None if the server gives none."""
        pair = compared(state, other)
        if pair is None or not pair[0].tree_size or pair[0].tree_size == pair[1].tree_size:
            return None
        small, large = pair
        if other.issuer != state.issuer:
            receipt = self.consistency(small.tree_size, other.issuer)
            return None if receipt is None else cose.parse_consistency(receipt).path
        value = self._log(f"path?old_size={small.tree_size}&new_size={large.tree_size}")
        if value is None:
            return None
        with Members(value, "path") as members:
            path = members.texts("path", 128)
        return [unb64u(node) for node in path]

    def head(self) -> bytes:
        """The latest signed head."""
        with Members(self._log("head"), "head") as members:
            members.optional(members.count, "tree_size")
            return members.binary("head")

    def consistency(self, old_size: int, issuer: str | None) -> bytes | None:
        """COSE Receipt of consistency, None if the server gives none."""
        of = "" if issuer is None else f"&issuer={quote(issuer)}"
        return _receipt(self._log(f"consistency?old_size={old_size}{of}"))

    def inclusion(self, index: int) -> bytes | None:
        """COSE Receipt of inclusion under the latest head, None if the server gives none."""
        return _receipt(self._log(f"proof?leaf_index={index}"))

    def leaves(self, start: int, end: int) -> bytes:
        """Leaf hashes; fewer if the server shows fewer."""
        found = bytearray()
        while start < end:
            value = self._log(f"leaves?start={start}&count={min(LEAVES, end - start)}")
            if value is None:
                break
            with Members(value, "leaves") as members:
                first, piece = members.count("start"), members.binary("leaves")
            if (
                first != start
                or not piece
                or len(piece) % HASH_SIZE
                or len(piece) > (end - start) * HASH_SIZE
            ):
                break
            found += piece
            start += len(piece) // HASH_SIZE
        return bytes(found)

    def entries(self, start: int, issuer: str | None = None) -> dict[str, Any] | None:
        """Entries for the export as the server shows them, of its instance or an earlier one; None if it has none of that."""
        of = "" if issuer is None else f"&issuer={quote(issuer)}"
        value = self._log(f"entries?start={start}&count={MAX_ENTRIES}{of}")
        if value is not None and not isinstance(value, dict):
            raise Malformed(answers.CODE, "the entries are not an object")
        return value

    def exported(self, size: int) -> None:
        """Say that everything before `size` has arrived."""
        self._log("exported", {"size": size})

    def cosign(self, head: bytes, line: str) -> None:
        """Bring a witness's cosignature."""
        self._log("cosignatures", {"head": b64u(head), "cosignature": line}, status=204)

    def _now(self, item: Logged) -> bytes | None:
        try:
            index = cose.parse_inclusion(item.receipt).leaf_index
        except RluError:
            return None
        return self.inclusion(index)

    def _log(self, path: str, body: dict[str, Any] | None = None, status: int = 200) -> object:
        content = None if body is None else json.dumps(body).encode()
        method = "GET" if body is None else "POST"
        answer = self._request(method, f"/v1/rlu/log/{path}", self._api_key, content)
        if answer.status == NOT_THERE and _code(answer) == "not_in_log":
            return None
        self._expect(status, answer)
        return None if status == 204 else answers.parse_json(answer.content, path.partition("?")[0])


def attested(client: Client, nonce: bytes) -> tuple[Bundle, InstanceClaims | None]:
    """The instance's attestation, and the claims in it; neither is verified. None: they cannot be read."""
    from rlu_attestation import jose

    bundle = client.attestation(nonce)
    try:
        return bundle, InstanceClaims.parse(jose.jws_parse(bundle.statement).payload)
    except RluError:
        return bundle, None


def _holds(state: State | None, proof: bytes) -> bool:
    """Is the proof a good one? If not, the head that is served beside it is evidence."""
    assert state is not None
    try:
        receipt = cose.parse_consistency(proof)
        receipt.verify(state.key, state.latest.root)
    except RluError:
        return False
    return receipt.old_size == state.latest.tree_size


def _size(proof: bytes | None, head: bytes | None) -> int:
    try:
        if head is not None:
            return cose.parse_head(head).tree_size
        return 0 if proof is None else cose.parse_consistency(proof).tree_size
    except RluError:
        return 0


def _receipt(value: object) -> bytes | None:
    if value is None:
        return None
    with Members(value, "proof") as members:
        return members.binary("receipt")


def _code(answer: Answer) -> str:
    try:
        value = answers.parse_json(answer.content, "the log")
    except Malformed:
        return ""
    return str(value.get("code")) if isinstance(value, dict) else ""
