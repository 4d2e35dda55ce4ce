"""The document: parsed from and written to canonical JSON, signed like a licence (`signed_json`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rlu_attestation import signed_json
from rlu_attestation.claims import Members
from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.errors import Malformed, RluError
from rlu_attestation.merkle import MAX_PATH
from rlu_attestation.policy_signature import PrivateKey, PublicKey

TYPE = "rlu-boundary-report+jwt"
PROFILE = "tag:rlu.internal,2026:boundary-report#1"
MAX_REPORT = 64 * 1024 * 1024
MAX_INSTANCES = 256
MAX_TALLIES = 100_000
MAX_FIGURES = 10_000
SOURCES = ("proven", "logged", "asserted")


@dataclass(frozen=True, slots=True)
class Counted:
    """A tally's bytes, and the path from its leaf to the root of its instance's head."""

    statement: bytes
    path: tuple[bytes, ...]

    def to_json(self) -> dict[str, Any]:
        return {"path": [b64u(node) for node in self.path], "statement": b64u(self.statement)}

    @classmethod
    def read(cls, value: object) -> Counted:
        with Members(value, "boundary report: tally") as members:
            return cls(members.binary("statement"), _path(members, "path"))


@dataclass(frozen=True, slots=True)
class InstanceLog:
    """The log of one instance, as far as the period needs it.

    Attributes:
        jwk: the instance key.
        head: a signed head over everything here.
        tallies: in order, without a gap.
        extends: consistency path to `head` from the head of this log that the next instance names; empty when it is the same.
    """

    jwk: dict[str, str]
    head: bytes
    tallies: tuple[Counted, ...]
    extends: tuple[bytes, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "extends": [b64u(node) for node in self.extends],
            "head": b64u(self.head),
            "jwk": dict(self.jwk),
            "tallies": [one.to_json() for one in self.tallies],
        }

    @classmethod
    def read(cls, value: object) -> InstanceLog:
        with Members(value, "boundary report: instance") as members:
            tallies = members.value("tallies")
            if not isinstance(tallies, list) or len(tallies) > MAX_TALLIES:
                raise Malformed("statement.claims", f"an instance has at most {MAX_TALLIES} tallies")
            return cls(
                members.mapping("jwk"),
                members.binary("head"),
                tuple(map(Counted.read, tallies)),
                _path(members, "extends"),
            )


@dataclass(frozen=True, slots=True)
class Figure:
    """One number.

    Attributes:
        name: what is counted, from the list in `figures`.
        of: which part of it: names to values.
        value: the number.
        source: `proven`: it follows from the places of entries under signed heads; `logged`: the attestor counted it and logged the count
            at the time; `asserted`: whoever signed the report says so.
        tallies: where it comes from: instance (its place in the report, from 0), number of the first tally, number of the last.
    """

    name: str
    of: tuple[tuple[str, str], ...]
    value: int
    source: str
    tallies: tuple[tuple[int, int, int], ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "of": dict(self.of),
            "source": self.source,
            "tallies": [list(run) for run in self.tallies],
            "value": self.value,
        }

    @classmethod
    def read(cls, value: object) -> Figure:
        with Members(value, "boundary report: figure") as members:
            of = members.mapping("of")
            if not all(isinstance(text, str) for text in of.values()):
                raise Malformed("statement.claims", "what a figure is of is said in strings")
            return cls(
                members.text("name"),
                tuple(sorted(of.items())),
                members.count("value"),
                members.choice("source", SOURCES),
                _runs(members.value("tallies")),
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was counted from `begin` up to, and not including, `end`; times in seconds since the epoch."""

    issued_at: int
    begin: int
    end: int
    instances: tuple[InstanceLog, ...]
    figures: tuple[Figure, ...]

    def sign(self, key: PrivateKey) -> str:
        """The report file, without a line's end."""
        payload: Mapping[str, Any] = {
            "figures": [figure.to_json() for figure in self.figures],
            "from": self.begin,
            "iat": self.issued_at,
            "instances": [one.to_json() for one in self.instances],
            "profile": PROFILE,
            "to": self.end,
        }
        return signed_json.sign(TYPE, dict(payload), key)

    @classmethod
    def verify(cls, text: str, keys: Iterable[PublicKey]) -> Report:
        """A report that one of these keys signed. Whether it is true is for `check.check` to see.

        Raises:
            Malformed: `boundary.encoding`, `boundary.claims`.
            Untrusted: `boundary.key`, `boundary.signature`.
        """
        return cls._read(signed_json.verify(TYPE, text, keys, "boundary", MAX_REPORT))

    @classmethod
    def peek(cls, text: str) -> Report:
        """What a report says, without asking who signed it: for people to read.

        Raises:
            Malformed: `boundary.encoding`, `boundary.claims`.
        """
        return cls._read(signed_json.peek(TYPE, text, "boundary", MAX_REPORT))

    @classmethod
    def _read(cls, payload: dict[str, Any]) -> Report:
        try:
            with Members(payload, "boundary report") as members:
                members.exactly("profile", PROFILE)
                report = cls(
                    issued_at=members.count("iat"),
                    begin=members.count("from"),
                    end=members.count("to"),
                    instances=tuple(map(InstanceLog.read, _array(members, "instances", MAX_INSTANCES))),
                    figures=tuple(map(Figure.read, _array(members, "figures", MAX_FIGURES))),
                )
        except RluError as error:
            raise Malformed("boundary.claims", error.message) from error
        if not report.begin < report.end or not report.instances:
            raise Malformed(
                "boundary.claims", "a report has a period that ends after it begins, and an instance"
            )
        return report


def is_report(data: bytes) -> bool:
    """Does a file begin as a boundary report does, whoever signed it?"""
    try:
        header = unb64u(data[:512].split(b".")[0].decode("ascii"))
    except (RluError, UnicodeDecodeError):
        return False
    return f'"typ":"{TYPE}"'.encode("ascii") in header


def _array(members: Members, name: str, most: int) -> list[object]:
    value = members.value(name)
    if not isinstance(value, list) or len(value) > most:
        raise Malformed("statement.claims", f"boundary report: {name} is an array of at most {most}")
    return value


def _path(members: Members, name: str) -> tuple[bytes, ...]:
    return tuple(unb64u(node) for node in members.texts(name, MAX_PATH + 2))


def _runs(value: object) -> tuple[tuple[int, int, int], ...]:
    runs: list[Any] = value if isinstance(value, list) and len(value) <= MAX_TALLIES else [None]
    for run in runs:
        if not isinstance(run, list) or len(run) != 3 or not all(type(n) is int for n in run):
            raise Malformed(
                "statement.claims", "a figure's tallies are [instance, first number, last number]"
            )
    return tuple((run[0], run[1], run[2]) for run in runs)
