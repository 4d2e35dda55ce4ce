"""The follower's side of the network: asks a server for what `log.follow` needs, and trusts nothing that comes back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from rlu_attestation import answers, cose
from rlu_attestation.bundle import Bundle, Cosigned, Logged
from rlu_attestation.claims import Members
from rlu_attestation.client import Answer, Client
from rlu_attestation.encoding import b64u
from rlu_attestation.errors import Malformed, RluError
from rlu_attestation.instance import InstanceClaims
from rlu_attestation.log.comparing import compared
from rlu_attestation.log.covering import proof_to
from rlu_attestation.log.state import State
from rlu_attestation.log.view import Seen, View
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
        proof = handover = ending = standing = head = leaves = None
        former = state.former if same and state is not None else state
        named = _named(claims, former)
        if same and former is not None and named > former.latest.tree_size:
            ending = self._to_named(former, claims)
        elif same and former is not None and named:
            standing = self._path(named, former.latest.tree_size, former.issuer)
        if state is not None and state.latest.tree_size:
            if same:
                proof = self.consistency(state.latest.tree_size, None)
            else:
                handover = self._to_named(state, claims)
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
            standing=standing,
            growth=None if former is None or claims.predecessor is None else self._growth(former, named),
            seen=seen,
        )

    def path_between(self, state: State, other: State) -> Sequence[bytes] | None:
        """The proof that `log.comparing.compare` asks for; None if the server gives none."""
        pair = compared(state, other)
        if pair is None or not pair[0].tree_size or pair[0].tree_size == pair[1].tree_size:
            return None
        small, large = pair
        if other.issuer != state.issuer:
            receipt = self.consistency(small.tree_size, other.issuer)
            return None if receipt is None else cose.parse_consistency(receipt).path
        return self._path(small.tree_size, large.tree_size, None)

    def head(self) -> bytes:
        """The latest signed head."""
        return _head(self._log("head"))

    def head_of(self, issuer: str) -> bytes | None:
        """The latest signed head of an instance, of an earlier one the final; None if the server does not know it."""
        value = self._log(f"head?issuer={quote(issuer)}")
        return None if value is None else _head(value)

    def cosignatures(self, issuer: str) -> tuple[Cosigned, ...]:
        """What the server has of witnesses, on heads of an instance."""
        value = self._log(f"cosignatures?issuer={quote(issuer)}")
        return () if value is None else answers.cosignatures(value)

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

    def _to_named(self, former: State, claims: InstanceClaims) -> bytes | None:
        """COSE Receipt of consistency from what is known of a former log to the head that the statement names of it."""
        known = former.latest.tree_size
        found = self.consistency(known, former.issuer)
        try:
            reached = 0 if found is None else cose.parse_consistency(found).tree_size
            if claims.predecessor is None or reached <= _named(claims, former):
                return found
            # It has grown or ended since the statement was made, and proofs lead further now.
            head = cose.parse_head(claims.predecessor.head)
        except RluError:
            return found
        path = self._path(known, head.tree_size, former.issuer) if known < head.tree_size else None
        return found if path is None else proof_to(head, known, path)

    def _growth(self, former: State, named: int) -> tuple[bytes, Sequence[bytes] | None] | None:
        """A later head of the former instance than is known or named (of so many entries), with what leads to it."""
        found = self.head_of(former.issuer)
        try:
            later = None if found is None else cose.parse_head(found)
        except RluError:
            later = None
        known = max(named, former.latest.tree_size)
        # A server that knows no earlier instances shows its own head.
        if found is None or later is None or later.issuer != former.issuer or later.tree_size <= known:
            return None
        return found, self._path(known, later.tree_size, former.issuer)

    def _path(self, old_size: int, new_size: int, issuer: str | None) -> Sequence[bytes] | None:
        """The hashes that lead from one tree to another, None if the server gives none."""
        if not 0 < old_size < new_size:
            return ()
        of = "" if issuer is None else f"&issuer={quote(issuer)}"
        value = self._log(f"path?old_size={old_size}&new_size={new_size}{of}")
        return None if value is None else answers.path(value)

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


def _named(claims: InstanceClaims, former: State | None) -> int:
    """How many entries the head has that a statement names of this former; 0 if it names none, or another's."""
    named = claims.predecessor
    if former is None or named is None or named.issuer != former.issuer:
        return 0
    try:
        return cose.parse_head(named.head).tree_size
    except RluError:
        return 0


def _head(value: object) -> bytes:
    with Members(value, "head") as members:
        members.optional(members.count, "tree_size")
        return members.binary("head")


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
