"""Whatever is shown: a principal or one of our refusals; and little is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.issuer import ISSUER, Issuer
from rlu_server.adapters.auth import authenticator
from rlu_server.adapters.auth.authenticator import Authenticator, Pending
from rlu_server.adapters.events import Events
from rlu_server.core.apikeys import KeyRing, Principal, mint
from rlu_server.core.auth import jwks
from rlu_server.core.auth.credentials import Credentials, Peer
from rlu_server.core.errors import GatewayError
from rlu_server.settings_auth import Auth

NOW = 1_800_000_000.0
ONE = Issuer("one")
RECORD, KEY = mint(b"\x01" * 8, b"\x02" * 32, "acme", "alice", 0)
HERE = Peer("192.0.2.1")


class Cluster:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[Callable[[bytes | None], None]] = []

    def ask(self, question: bytes, answered: Callable[[bytes | None], None]) -> None:
        self.asked.append(answered)


class Desk:
    """An authenticator with a clock that is set by hand."""

    def __init__(self, cluster: Cluster | None = None, **more: Any) -> None:
        self.now = NOW
        self.lines: list[bytes] = []
        issuer = {
            "name": "corporate",
            "issuer": ISSUER,
            "audience": ["rlu"],
            "jwks_file": "f",
            "tenant": "acme",
        }
        settings = Auth.model_validate(
            {"issuers": [{**issuer, **more}], "relay": "unix:/r", "lockout_after": 3, "review_ttl_s": 30}
        )
        self.ring = KeyRing(b"p" * 32, [RECORD])
        self.made = Authenticator(
            settings, self.ring, Events(self.lines.append), lambda: self.now, cluster, lambda: self.now
        )
        self.made.set_issuer_keys("corporate", jwks.parse(ONE.jwks()))

    def show(self, text: str, peer: Peer = HERE) -> Principal | Pending:
        return self.made.authenticate(Credentials(f"Bearer {text}".encode("latin-1", "replace"), None, peer))

    def refusal(self, text: str, peer: Peer = HERE) -> str:
        with pytest.raises(GatewayError) as caught:
            self.show(text, peer)
        return caught.value.code


def principal(found: Principal | Pending) -> Principal:
    assert isinstance(found, Principal)
    return found


@given(
    st.none() | st.binary(max_size=80) | st.text(max_size=80),
    st.none() | st.binary(max_size=80),
    st.none() | st.binary(max_size=40),
)
def test_arbitrary_credentials_are_refused_by_code(bearer: Any, direct: Any, certificate: Any):
    for shown in (bearer, b"Bearer " + (direct or b"")):
        with pytest.raises(GatewayError) as caught:
            Desk().made.authenticate(Credentials(shown, direct, Peer("192.0.2.1", certificate)))
        assert caught.value.status == 401


@pytest.mark.parametrize("shown", [None, b"", b"Basic abc", b"Bearer "])
def test_nothing_shown_is_nothing_wrong(shown: bytes | None):
    desk = Desk()
    for _ in range(9):
        with pytest.raises(GatewayError) as caught:
            desk.made.authenticate(Credentials(shown, None, HERE))
        assert caught.value.code == "key_missing"


def test_a_verified_token_is_remembered_until_it_expires_and_no_longer(monkeypatch: pytest.MonkeyPatch):
    desk = Desk(clock_skew_s=0)
    token = ONE.token(NOW)
    first = principal(desk.show(token))
    monkeypatch.setattr(authenticator.tokens, "verify", None)  # would raise TypeError
    assert desk.show(token) is first
    desk.now += 599.5
    assert desk.show(token) is first
    monkeypatch.undo()
    desk.now += 0.5
    assert desk.refusal(token) == "token_expired"


def test_a_refused_token_is_remembered_for_a_moment():
    desk = Desk(clock_skew_s=0)
    token = ONE.token(NOW + 5)
    assert desk.refusal(token) == "token_not_yet"
    desk.now += 6
    assert desk.refusal(token) == "token_not_yet"
    desk.now += authenticator.REFUSED_S
    assert principal(desk.show(token)).name == "dana"


def test_little_is_kept(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(authenticator, "REMEMBERED", 5)
    monkeypatch.setattr(authenticator, "NAMES", 5)
    desk = Desk()
    for number in range(12):
        principal(desk.show(ONE.token(NOW, sub=f"agent-{number}")))
    assert len(desk.made._verified) == len(desk.made.seen) == 5
    assert set(desk.made.seen.values()) == {f"agent-{number}" for number in range(7, 12)}


def test_bad_tokens_do_not_drive_out_good_ones(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(authenticator, "REMEMBERED", 5)
    desk = Desk()
    good = ONE.token(NOW)
    first = principal(desk.show(good))
    for number in range(20):
        desk.refusal(ONE.token(NOW - 10_000, jti=str(number)))
    assert desk.show(good) is first
    assert len(desk.made._refusals) == 5


def test_a_change_of_keys_forgets_what_was_decided():
    desk = Desk()
    token = ONE.token(NOW)
    principal(desk.show(token))
    desk.made.set_issuer_keys("corporate", jwks.parse(Issuer("one").jwks()))
    assert desk.refusal(token) == "token_signature"
    principal(desk.show(KEY))
    assert desk.made.used == {RECORD.id: int(NOW)}
    desk.made.keys = KeyRing(b"p" * 32, [])
    assert desk.refusal(KEY) == "key_invalid"
    assert desk.made.used == {}


def test_keys_and_tokens_of_one_person_have_one_pseudonym():
    desk = Desk()
    assert principal(desk.show(ONE.token(NOW, sub="alice"))).pseudonym == principal(desk.show(KEY)).pseudonym


def test_an_id_alone_locks_nobody_out():
    desk = Desk()
    for number in range(10):
        assert desk.refusal(f"rlu_{RECORD.id}_{number}") in ("key_invalid", "locked_out")
    assert desk.refusal(KEY) == "locked_out"
    assert principal(desk.show(KEY, Peer("192.0.2.2"))).name == "alice"
    # While an address waits, its guesses are not looked at: they cannot lengthen the wait.
    desk.now += 2
    assert principal(desk.show(KEY)).name == "alice"
    for number in range(20, 25):
        desk.refusal(f"rlu_{RECORD.id}_{number}")
    assert principal(desk.show(KEY)).name == "alice"
    assert desk.refusal(ONE.token(NOW)) == "locked_out"


def test_repeating_a_mistake_is_no_guess():
    desk = Desk()
    for _ in range(50):
        assert desk.refusal("rlu_0_old") == "key_invalid"
        assert desk.refusal(ONE.token(NOW - 10_000)) == "token_expired"


TOKEN = ONE.token(NOW)


def review(
    desk: Desk, cluster: Cluster, token: str = TOKEN
) -> tuple[list[Any], Callable[[bytes | None], None]]:
    found: list[Any] = []
    pending = desk.show(token)
    assert isinstance(pending, Pending)
    assert desk.show(token) is pending
    pending.then(found.append)
    assert found == []
    return found, cluster.asked[-1]


ANSWER = (
    b'{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","status":'
    b'{"authenticated":true,"audiences":["rlu"],"user":{"username":"%b"}}}'
)


def test_the_clusters_yes_counts_for_its_time():
    cluster = Cluster()
    desk = Desk(cluster, review=True)
    found, answered = review(desk, cluster)
    answered(ANSWER % b"dana")
    assert [one.name for one in found] == ["dana"]
    desk.now += 29
    assert principal(desk.show(TOKEN)).name == "dana"
    desk.now += 2
    assert isinstance(desk.show(TOKEN), Pending)
    assert len(cluster.asked) == 2


def test_a_yes_about_somebody_else_or_for_keys_that_changed_meanwhile_is_none():
    cluster = Cluster()
    desk = Desk(cluster, review=True)
    found, answered = review(desk, cluster)
    answered(ANSWER % b"eve")
    assert [one.code for one in found] == ["token_refused"]
    desk.now += 11
    found, answered = review(desk, cluster)
    desk.made.keys = desk.ring
    answered(ANSWER % b"dana")
    assert [one.code for one in found] == ["token_unverifiable"]
    found, answered = review(desk, cluster)
    answered(None)
    assert [one.code for one in found] == ["token_unverifiable"]


def test_one_who_waits_and_fails_leaves_nobody_waiting():
    cluster = Cluster()
    desk = Desk(cluster, review=True)
    pending = desk.show(TOKEN)
    assert isinstance(pending, Pending)
    found: list[Any] = []

    def broken(decided: Any) -> None:
        raise ZeroDivisionError

    pending.then(broken)
    pending.then(found.append)
    with pytest.raises(ZeroDivisionError):
        cluster.asked[0](ANSWER % b"dana")
    assert [one.name for one in found] == ["dana"]


def test_so_many_questions_and_no_more(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(authenticator, "ASKING", 2)
    cluster = Cluster()
    desk = Desk(cluster, review=True)
    for number in range(2):
        assert isinstance(desk.show(ONE.token(NOW, sub=str(number))), Pending)
    assert desk.refusal(ONE.token(NOW, sub="2")) == "token_unverifiable"
    assert len(cluster.asked) == 2
