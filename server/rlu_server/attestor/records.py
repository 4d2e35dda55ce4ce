"""Lines of the attestation log file: one JSON object each, content-free (design P5).

    {"iss":…,"jwk":{…},"kind":"log","predecessor":{"head":…,"iss":…}?,"segment":{"number":…,"size":…},"version":2}    first line
    {"count":…,"exp":…,"kind":"open","last_seq":…,"leaf":…,"profile":…,"running":…,"session":…}  open at the start
    {"count":…,"kind":"start"}                                                                 the attestor started
    {"exp":…,"iat":…,"index":…,"kind":"session","leaf":…,"profile":…,"session":…}
    {"iat":…,"index":…,"kind":"receipt","leaf":…,"seq":…,"session":…,"status":…,"usage":[…]}
    {"iat":…,"index":…,"kind":"close","leaf":…,"session":…}
    {"first":…,"iat":…,"index":…,"kind":"gap","leaf":…}                                        leaves from `first` on were not exported
    {"iat":…,"index":…,"kind":"tally","leaf":…,"statement":…}                                  what the leaves before it are
    {"first":…,"iat":…?,"kind":"counted","number":…,"sessions":{…}}                            where the next tally begins, at the start
    {"head":…,"kind":"head","size":…}                                                          ends a batch

`leaf` is the leaf hash, `profile` the instance profile digest, `head` the signed head, all base64url. A leaf hash is blinded by 128
random bits of its statement, and `usage` holds buckets (`tiles.bucket`): nothing here tells what was said or by whom. A batch and its
head are written at once, after the head was signed, and reach the disk before anything of it is released: what follows the last head
was never shown to anyone.

A log is cut into segments. A segment after the first says how many leaves came before it, and repeats the sessions that were open and the
head that was signed; those lines stand where a batch would.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta

from rlu_attestation.encoding import b64u
from rlu_attestation.log.tally import MAX_TALLY
from rlu_server.attestor import tiles
from rlu_server.attestor.errors import LogCorrupt
from rlu_server.attestor.messages import SessionId, Size, Status

VERSION = 2
HEAD_MARK = b'"kind":"head"'
DigestText = Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{43}$")]
Bucket = Annotated[int, Meta(ge=0, le=255)]
Encoded = Annotated[str, Meta(max_length=4096, pattern="^[A-Za-z0-9_-]+$")]


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", kw_only=True):
    pass


class PredecessorRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    head: Encoded
    iss: str


class SegmentRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    number: Size
    size: Size


class LogRecord(_Line, frozen=True, tag="log"):
    iss: str
    jwk: dict[str, str]
    version: int
    predecessor: PredecessorRecord | None = None
    segment: SegmentRecord = SegmentRecord(1, 0)


class OpenRecord(_Line, frozen=True, tag="open"):
    count: Size
    exp: Size
    last_seq: Size
    leaf: DigestText
    profile: DigestText
    running: DigestText
    session: SessionId


class StartRecord(_Line, frozen=True, tag="start"):
    count: Size


class SessionRecord(_Line, frozen=True, tag="session"):
    exp: Size
    iat: Size
    index: Size
    leaf: DigestText
    profile: DigestText
    session: SessionId


class ReceiptRecord(_Line, frozen=True, tag="receipt"):
    iat: Size
    index: Size
    leaf: DigestText
    seq: Size
    session: SessionId
    status: Status
    usage: tuple[Bucket, Bucket, Bucket]


class CloseRecord(_Line, frozen=True, tag="close"):
    iat: Size
    index: Size
    leaf: DigestText
    session: SessionId


class GapRecord(_Line, frozen=True, tag="gap"):
    first: Size
    iat: Size
    index: Size
    leaf: DigestText


class TallyRecord(_Line, frozen=True, tag="tally"):
    iat: Size
    index: Size
    leaf: DigestText
    statement: Annotated[str, Meta(max_length=MAX_TALLY * 4 // 3 + 3, pattern="^[A-Za-z0-9_-]+$")]


class CountedRecord(_Line, frozen=True, tag="counted"):
    first: Size
    number: Size
    sessions: dict[DigestText, Size]
    iat: Size | None = None


class HeadRecord(_Line, frozen=True, tag="head"):
    head: Encoded
    size: Size


LeafRecord = SessionRecord | ReceiptRecord | CloseRecord | GapRecord | TallyRecord
Preamble = OpenRecord | StartRecord | CountedRecord
Entry = LeafRecord | Preamble
Record = LogRecord | Entry | HeadRecord

_decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)
_encoder = msgspec.json.Encoder(order="sorted")


@dataclass(frozen=True, slots=True)
class Batch:
    """Leaves (and what else stands among them) and the head over them; `end` is the offset after it."""

    leaves: list[Entry]
    head: HeadRecord
    end: int


def first_line(
    issuer: str,
    jwk: dict[str, str],
    predecessor: PredecessorRecord | None,
    segment: SegmentRecord,
) -> bytes:
    """The line that starts a segment."""
    record = LogRecord(iss=issuer, jwk=jwk, version=VERSION, predecessor=predecessor, segment=segment)
    return _line({k: v for k, v in msgspec.to_builtins(record).items() if v is not None})


def session_line(index: int, session: str, leaf: bytes, iat: int, expires_at: int, profile: bytes) -> bytes:
    """A session's line."""
    return (
        f'{{"exp":{expires_at},"iat":{iat},"index":{index},"kind":"session","leaf":"{b64u(leaf)}",'
        f'"profile":"{b64u(profile)}","session":"{session}"}}\n'
    ).encode("ascii")


def receipt_line(
    index: int, session: str, leaf: bytes, iat: int, seq: int, status: str, usage: tuple[int, int, int]
) -> bytes:
    """A receipt's line."""
    return (
        f'{{"iat":{iat},"index":{index},"kind":"receipt","leaf":"{b64u(leaf)}","seq":{seq},"session":"{session}",'
        f'"status":"{status}","usage":[{usage[0]},{usage[1]},{usage[2]}]}}\n'
    ).encode("ascii")


def close_line(index: int, session: str, leaf: bytes, iat: int) -> bytes:
    """A close's line."""
    return f'{{"iat":{iat},"index":{index},"kind":"close","leaf":"{b64u(leaf)}","session":"{session}"}}\n'.encode(
        "ascii"
    )


def gap_line(index: int, leaf: bytes, iat: int, first: int) -> bytes:
    """The line of an entry that says what was not exported."""
    return f'{{"first":{first},"iat":{iat},"index":{index},"kind":"gap","leaf":"{b64u(leaf)}"}}\n'.encode(
        "ascii"
    )


def tally_line(index: int, leaf: bytes, iat: int, statement: bytes) -> bytes:
    """The line of a tally; it alone has its statement with it, since nobody else is given it."""
    return (
        f'{{"iat":{iat},"index":{index},"kind":"tally","leaf":"{b64u(leaf)}","statement":"{b64u(statement)}"}}\n'
    ).encode("ascii")


def counted_line(record: CountedRecord) -> bytes:
    """The line that carries what was counted into a new segment."""
    return _line({k: v for k, v in msgspec.to_builtins(record).items() if v is not None})


def start_line(count: int) -> bytes:
    """The line that says which value the counter of starts had."""
    return f'{{"count":{count},"kind":"start"}}\n'.encode("ascii")


def open_line(record: OpenRecord) -> bytes:
    """The line that carries a session into a new segment."""
    return _line(record)


def head_line(head: bytes, size: int) -> bytes:
    """A signed head's line."""
    return f'{{"head":"{b64u(head)}","kind":"head","size":{size}}}\n'.encode("ascii")


def meta(record: LeafRecord) -> tiles.Meta:
    """What is kept beside a leaf, of its line."""
    if isinstance(record, ReceiptRecord):
        return tiles.Meta("receipt", record.iat, record.status, record.usage)
    if isinstance(record, GapRecord):
        return tiles.Meta("gap", record.iat, first=record.first)
    if isinstance(record, TallyRecord):
        return tiles.Meta("tally", record.iat)
    return tiles.Meta("session" if isinstance(record, SessionRecord) else "close", record.iat)


def read_first(line: bytes) -> LogRecord:
    """Parse the first line.

    Raises:
        LogCorrupt: it is not one.
    """
    record = parse(line)
    if not isinstance(record, LogRecord) or record.version != VERSION:
        raise LogCorrupt("log.header", "the log's first line is not one of this version")
    return record


def read_batches(data: mmap.mmap, start: int) -> Iterator[Batch]:
    """The whole batches after the first line; what a crash tore off at the end is left out.

    Raises:
        LogCorrupt: damage before the last batch, which no crash explains.
    """
    leaves: list[Entry] = []
    at = start
    while at < len(data):
        end = data.find(b"\n", at) + 1
        record = parse(data[at:end]) if end else None
        if record is None or isinstance(record, LogRecord):
            _refuse_if_more_heads(data, at)
            return
        if isinstance(record, HeadRecord):
            yield Batch(leaves, record, end)
            leaves = []
        else:
            leaves.append(record)
        at = end


def _refuse_if_more_heads(data: mmap.mmap, at: int) -> None:
    # The disk may hold any part of the last batch after a power cut, even its head. Two heads mean a batch that was synced.
    one = data.find(HEAD_MARK, at)
    if one >= 0 and data.find(HEAD_MARK, one + 1) >= 0:
        raise LogCorrupt("log.damaged", f"the log is damaged at byte {at}, before batches that were complete")


def parse(line: bytes) -> Record | None:
    try:
        return _decoder.decode(line)
    except msgspec.MsgspecError:
        return None


def _line(value: object) -> bytes:
    return _encoder.encode(value) + b"\n"
