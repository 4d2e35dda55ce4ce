"""What a follower asks a server for across a rotation: of servers that answer at another moment than the statement was made."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

import pytest

from fakes.log_operator import AT, Operator
from rlu_attestation.encoding import b64u
from rlu_attestation.errors import Malformed
from rlu_attestation.instance import InstanceClaims
from rlu_attestation.log.follow import Report, follow
from rlu_attestation.log.state import State
from rlu_attestation.log_client import LogClient


@dataclass
class Server:
    """The log's routes over two logs: of a key that stepped down, and of the one that followed."""

    old: Operator
    new: Operator
    handed_over: int
    ended: bool = False
    asked: list[str] = field(default_factory=list)

    def claims(self) -> InstanceClaims:
        predecessor = self.old.final() if self.ended else self.old.fork(self.handed_over).final()
        return self.new.claims(predecessor=predecessor)

    def answer(self, path: str) -> object:
        self.asked.append(path)
        parts = urlsplit(path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        log = next(
            (o for o in (self.old, self.new) if o.issuer == query.get("issuer", self.new.issuer)), None
        )
        if log is None:
            return None
        if parts.path == "head":
            return {"head": b64u(log.head()), "tree_size": log.tree.size}
        if parts.path == "consistency":
            # Of a log that still grows proofs lead to the head that statements name.
            shown = log if log is self.new or self.ended else log.fork(self.handed_over)
            old_size = int(query["old_size"])
            return {"receipt": b64u(shown.proof(old_size))} if old_size <= shown.tree.size else None
        assert parts.path == "path"
        sizes = int(query["old_size"]), int(query["new_size"])
        return {"path": [b64u(node) for node in log.tree.consistency_path(*sizes)]}


class Follower(LogClient):
    """Asks a server in this process."""

    def __init__(self, server: Server) -> None:
        super().__init__("http://localhost:1", "key")
        self.server = server

    def _log(self, path: str, body: dict[str, object] | None = None, status: int = 200) -> object:
        assert body is None
        return self.server.answer(path)

    def look(self, state: State | None, claims: InstanceClaims | None = None) -> Report:
        claims = self.server.claims() if claims is None else claims
        return follow(state, self.view(claims, state, entries=False), self.server.new.now, None)


@pytest.fixture
def server() -> Server:
    return Server(Operator().grow(9), Operator().grow(2), handed_over=9)


def known(server: Server, size: int = 5) -> State:
    """Of an observer who saw the old log alone, so far."""
    old = server.old.fork(size)
    state = follow(None, old.view(), AT, None).state
    assert state is not None
    return state


def former(report: Report) -> int:
    assert report.findings == (), report.findings
    assert report.state is not None
    assert report.state.former is not None
    return report.state.former.latest.tree_size


def test_a_former_log_is_followed_from_look_to_look(server: Server) -> None:
    follower = Follower(server)
    report = follower.look(known(server))
    assert former(report) == 9
    sizes = []
    for count in (3, 0, 1):
        server.old.grow(count)
        report = follower.look(report.state)
        sizes.append(former(report))
    assert sizes == [12, 12, 13]
    server.old.grow(2)
    server.ended = True
    report = follower.look(report.state)
    assert former(report) == 15
    server.asked.clear()
    assert former(follower.look(report.state)) == 15
    assert not [path for path in server.asked if path.startswith("path")], "nothing is new"


@pytest.mark.parametrize("size", [5, 9])
def test_a_log_that_ends_after_the_statement_was_made(server: Server, size: int) -> None:
    """Proofs lead to the final head by then, the statement names an earlier one: what was shown is no finding."""
    follower, earlier = Follower(server), server.claims()
    server.old.grow(4)
    server.ended = True
    report = follower.look(known(server, size), earlier)
    assert former(report) == 13
    assert former(follower.look(report.state)) == 13


def test_a_log_that_ends_between_two_statements(server: Server) -> None:
    follower = Follower(server)
    state = follower.look(known(server)).state
    server.old.grow(4)
    server.ended = True
    named = server.new.claims(predecessor=server.old.fork(11).final())
    assert former(follower.look(state, named)) == 13


def test_a_server_that_forks_the_former_log_is_found(server: Server) -> None:
    follower = Follower(server)
    state = follower.look(known(server)).state
    honest = server.old
    server.old = honest.fork(7).grow(9, "other")
    report = follower.look(state, server.new.claims(predecessor=honest.final()))
    assert [finding.code for finding in report.findings] == ["log.fork"]
    assert report.state == state


def test_a_server_that_knows_no_earlier_instances(server: Server) -> None:
    """It ignores who is asked for, and shows its own log: the former log is as far as the statement says."""
    follower = Follower(server)
    state = follower.look(known(server)).state
    server.old.grow(4)

    class Ignorant(Follower):
        def _log(self, path: str, body: dict[str, object] | None = None, status: int = 200) -> object:
            return self.server.answer(path.partition("&issuer=")[0].partition("?issuer=")[0])

    assert former(Ignorant(server).look(state)) == 9


def test_an_answer_that_is_none(server: Server) -> None:
    class Silent(Follower):
        def _log(self, path: str, body: dict[str, object] | None = None, status: int = 200) -> object:
            return {"path": 1} if path.startswith("path") else self.server.answer(path)

    state = Follower(server).look(known(server)).state
    server.old.grow(1)
    with pytest.raises(Malformed, match=r"statement\.claims"):
        Silent(server).look(state)
