"""The attestor's log files at rest (FORMATS section 11.3), line by line: every entry in its place, every head over what stands before it.

What a crash leaves behind the last head is not part of the log; at rest it is told as `log.truncated`, because a log that was shut down,
backed up or sent to somebody ends with a head.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from rlu_attestation import cose, jose
from rlu_attestation.cose import SignedHead
from rlu_attestation.encoding import unb64u
from rlu_attestation.errors import RluError
from rlu_attestation.instance import Predecessor, issuer
from rlu_attestation.log.finding import Finding
from rlu_attestation.log.frontier import Frontier
from rlu_attestation.log.state import State
from rlu_attestation.merkle import HASH_SIZE

VERSION = 2
MAX_LINE = 96 * 1024
LEAVES = frozenset({"session", "receipt", "close", "gap", "tally"})


@dataclass(frozen=True, slots=True)
class Summary:
    """A log that was read: what its last head says, and how much was read to know it."""

    issuer: str
    jwk: dict[str, str]
    head: SignedHead | None
    frontier: tuple[bytes, ...]
    start_count: int | None
    read_from: int
    """The first entry that was read as a line; what came before was taken from the sealed leaves."""
    predecessor: Predecessor | None = None
    named: frozenset[bytes] = frozenset()
    """Of the heads that were asked for, those that are in it."""


@dataclass(frozen=True, slots=True)
class FileReport:
    findings: tuple[Finding, ...]
    log: Summary | None


def follows(logs: Sequence[Summary]) -> list[Finding]:
    """Do the instances whose logs are here follow each other? A predecessor whose log is not here is not looked at.

    A log names a head of the one before as it began: the last one, unless a key that stepped down went on with its sessions.
    """
    former = {log.issuer: log for log in logs}
    findings = []
    for log in logs:
        named = log.predecessor
        before = None if named is None else former.get(named.issuer)
        if named is None or before is None or before.head is None or named.head in before.named:
            continue
        final = cose.assemble_head(before.head.protected, before.head.root, before.head.signature)
        detail = f"{log.issuer} names a head of {named.issuer} that is not in its log"
        findings.append(Finding("log.predecessor", detail, (final, named.head)))
    return findings


class _Found(Exception):
    def __init__(self, code: str, detail: str, *evidence: bytes) -> None:
        super().__init__(code)
        self.finding = Finding(code, detail, evidence)


def check(
    segments: Iterable[tuple[str, Iterable[bytes]]],
    sealed: Iterable[bytes],
    state: State | None,
    named: Collection[bytes] = (),
) -> FileReport:
    """Read one instance's log.

    Args:
        segments: names and lines of the segments there are, in order; the last is the one that was written to.
        sealed: the sealed leaves, in pieces of whole hashes, read only if the first segment given does not begin with entry 0.
        state: what an observer knows of the log; it must be in it.
        named: heads that later instances name; the report says which of them are in it.
    """
    reader = _Reader(state, frozenset(named))
    try:
        for name, lines in segments:
            reader.segment(name, lines, sealed)
        reader.end()
    except _Found as found:
        return FileReport((found.finding,), None)
    return FileReport((), reader.summary())


class _Reader:
    def __init__(self, state: State | None, asked: frozenset[bytes]) -> None:
        self._state = state
        self._asked = asked
        self._named: set[bytes] = set()
        self._known = None if state is None else state.latest
        self._met = self._known is None or self._known.tree_size == 0
        self._frontier = Frontier()
        self._head: SignedHead | None = None
        self._jwk: dict[str, str] = {}
        self._issuer = ""
        self._key: ec.EllipticCurvePublicKey | None = None
        self._count: int | None = None
        self._number = 0
        self._read_from = 0
        self._where = ""
        self._predecessor: Predecessor | None = None

    def summary(self) -> Summary:
        return Summary(
            self._issuer,
            self._jwk,
            self._head,
            self._frontier.nodes,
            self._count,
            self._read_from,
            self._predecessor,
            frozenset(self._named),
        )

    def segment(self, name: str, lines: Iterable[bytes], sealed: Iterable[bytes]) -> None:
        preamble, batch = False, []
        for number, line in enumerate(lines, 1):
            self._where = f"{name}, line {number}"
            record = self._record(line)
            kind = record.get("kind")
            if number == 1:
                preamble = self._header(record, sealed)
            elif kind in LEAVES:
                batch.append(record)
            elif kind == "head":
                self._batch(batch, record, preamble)
                preamble, batch = False, []
            elif kind == "start":
                self._start(record, preamble)
            elif kind not in ("open", "counted") or not preamble:
                raise self._found("log.files", "a line that does not belong there")
        if batch or preamble:
            raise self._found("log.truncated", "the file does not end with a head")

    def end(self) -> None:
        if self._number == 0:
            raise _Found("log.files", "there is no log")
        if not self._met and self._known is not None:
            assert self._state is not None
            if self._frontier.size < self._known.tree_size:
                detail = f"{self._known.tree_size} entries were seen, {self._frontier.size} are here"
                raise _Found("log.truncated", detail, self._state.head)
            detail = f"no head over {self._known.tree_size} entries is here, and one was seen"
            raise _Found("log.fork", detail, self._state.head)

    def _header(self, record: dict[str, Any], sealed: Iterable[bytes]) -> bool:
        segment = record.get("segment")
        if record.get("kind") != "log" or record.get("version") != VERSION or not isinstance(segment, dict):
            raise self._found("log.files", "the first line is not that of a log of this version")
        number, size = self._integer(segment, "number"), self._integer(segment, "size")
        jwk = record.get("jwk")
        try:
            key = jose.public_key(jwk if isinstance(jwk, dict) else {})
        except RluError as error:
            raise self._found("log.files", f"the key in the first line: {error.message}") from error
        named = issuer(jose.thumbprint(jose.public_jwk(key)))
        if record.get("iss") != named:
            raise self._found("log.files", "the log's name is not that of the key in its first line")
        if self._state is not None and named != self._state.issuer:
            raise self._found("log.predecessor", f"the log is of {named}, expected {self._state.issuer}")
        if self._number and (named != self._issuer or number != self._number + 1):
            raise self._found("log.gap", f"segment {number} follows segment {self._number}")
        if not self._number and size:
            self._take(sealed, size)
        self._predecessor = self._before(record.get("predecessor"))
        self._issuer, self._jwk, self._key, self._number = named, jose.public_jwk(key), key, number
        if size != self._frontier.size:
            raise self._found(
                "log.gap", f"the segment begins after {size} entries, {self._frontier.size} are here"
            )
        return number > 1

    def _before(self, value: object) -> Predecessor | None:
        if value is None:
            return None
        if not isinstance(value, dict) or not isinstance(value.get("iss"), str):
            raise self._found("log.files", "the predecessor in the first line is none")
        return Predecessor(value["iss"], self._binary(value, "head"))

    def _take(self, sealed: Iterable[bytes], size: int) -> None:
        for piece in sealed:
            left = (size - self._frontier.size) * HASH_SIZE
            self._frontier.extend(piece[: min(left, len(piece) - len(piece) % HASH_SIZE)])
            if self._frontier.size == size:
                break
            self._meet()
        self._read_from = size

    def _batch(self, batch: list[dict[str, Any]], record: dict[str, Any], preamble: bool) -> None:
        first = self._frontier.size
        indices = [self._integer(leaf, "index") for leaf in batch]
        if indices != list(range(first, first + len(batch))):
            if sorted(indices) == list(range(first, first + len(batch))):
                raise self._found(
                    "log.reordered", f"entries {first} to {first + len(batch) - 1} are out of order"
                )
            raise self._found("log.gap", f"entries from {first} on are missing, or there twice")
        for leaf in batch:
            hashed = self._binary(leaf, "leaf")
            if len(hashed) != HASH_SIZE:
                raise self._found("log.files", "a leaf hash has 32 bytes")
            self._frontier.append(hashed)
        encoded = self._binary(record, "head")
        head = self._signed(encoded)
        if head.tree_size != self._frontier.size:
            detail = f"a head over {head.tree_size} entries stands behind {self._frontier.size}"
            raise self._found("log.gap", detail)
        if head.root != self._frontier.root():
            raise self._found(
                "log.rewritten", "the entries before this head are not those it was signed over"
            )
        if self._head is not None and (head.iat < self._head.iat):
            raise self._found("log.clock", f"a head of time {head.iat} follows one of {self._head.iat}")
        self._head = head
        if encoded in self._asked:
            self._named.add(encoded)
        self._meet()

    def _meet(self) -> None:
        known = self._known
        if known is not None and self._frontier.size == known.tree_size and not self._met:
            if self._frontier.root() != known.root:
                assert self._state is not None
                detail = f"the tree of {known.tree_size} entries is not the one that was seen"
                raise _Found("log.fork", detail, self._state.head)
            self._met = True

    def _start(self, record: dict[str, Any], preamble: bool) -> None:
        count = self._integer(record, "count")
        if self._count is not None and not preamble and count <= self._count:
            raise self._found("log.start_counter", f"start {count} follows start {self._count}")
        self._count = count

    def _signed(self, encoded: bytes) -> SignedHead:
        assert self._key is not None
        try:
            head = cose.parse_head(encoded)
            head.verify(self._key)
        except RluError as error:
            raise self._found("log.head.invalid", error.message) from error
        if head.issuer != self._issuer:
            raise self._found("log.head.invalid", f"the head is of {head.issuer}")
        return head

    def _record(self, line: bytes) -> dict[str, Any]:
        if not line.endswith(b"\n"):
            raise self._found("log.truncated", "the last line is cut off")
        try:
            record = json.loads(line) if len(line) <= MAX_LINE else None
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict):
            raise self._found("log.files", "not a line of a log")
        return record

    def _integer(self, record: dict[str, Any], name: str) -> int:
        value = record.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**53:
            raise self._found("log.files", f"{name} is not a number from 0 up")
        return value

    def _binary(self, record: dict[str, Any], name: str) -> bytes:
        try:
            return unb64u(record.get(name, "="))
        except RluError as error:
            raise self._found("log.files", f"{name} is not base64url") from error

    def _found(self, code: str, detail: str) -> _Found:
        return _Found(code, f"{self._where}: {detail}")
