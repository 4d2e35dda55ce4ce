"""What a client asks for to show that a bundle's statements are under cosigned heads, and what it makes of the answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from fakes.deployment import NONCE
from fakes.server import API_KEY, Answer, FakeServer, Seen
from rlu_attestation import cose
from rlu_attestation.bundle import MAX_COSIGNATURES, Bundle, Cosigned
from rlu_attestation.client import Client
from rlu_attestation.encoding import b64u
from rlu_attestation.errors import RluError
from rlu_attestation.log import covering
from rlu_attestation.log.covering import unproven

COSIGNATURES, PATH = "/v1/rlu/log/cosignatures", "/v1/rlu/log/path"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FakeServer]:
    with FakeServer(tmp_path) as running:
        yield running


def give(server: FakeServer, *sizes: int) -> None:
    """Heads of these sizes are cosigned, as far as the client can tell, and the server has all paths."""
    tree, heads = server.deployment.tree, [server.deployment.head(size) for size in sizes]
    shown = [{"cosignature": f"— w {number}", "head": b64u(head)} for number, head in enumerate(heads)]

    def path(seen: Seen) -> Answer:
        query = {name: int(value[0]) for name, value in parse_qs(urlsplit(seen.path).query).items()}
        nodes = tree.consistency_path(query["old_size"], query["new_size"])
        return answer({"path": [b64u(node) for node in nodes]})

    server.answers |= {COSIGNATURES: answer({"cosignatures": shown}), PATH: path}


def answer(value: object, status: int = 200) -> Answer:
    return Answer(status, json.dumps(value).encode(), {"Content-Type": "application/json"})


def fetched(server: FakeServer, bundle: Bundle) -> Bundle:
    with Client(server.url) as client:
        return client.cosigned(bundle, API_KEY)


def test_each_head_is_led_to_from_each_receipts_head(server: FakeServer) -> None:
    bundle = server.deployment.bundle(2)
    sizes = sorted({2, server.deployment.tree.size})
    server.deployment.append(b"later")
    server.deployment.append(b"later still")
    end = server.deployment.tree.size
    give(server, 1, end - 1, end, end)
    found = fetched(server, bundle)
    assert [one.line for one in found.cosignatures] == ["— w 0", "— w 1", "— w 2", "— w 3"]
    proofs = [cose.parse_consistency(proof) for proof in found.consistency]
    assert {(p.old_size, p.tree_size) for p in proofs} >= {(2, end - 1), (2, end)}
    assert len({(p.old_size, p.tree_size) for p in proofs}) == len(proofs)
    key = server.deployment.machine.tpm.key.public_key()
    for proof in proofs:
        root = proof.verify(key, server.deployment.tree.root(proof.old_size))  # type: ignore[arg-type]
        assert root == server.deployment.tree.root(proof.tree_size)
    assert sizes[0] == 2
    assert replace(found, cosignatures=(), consistency=()) == bundle
    assert fetched(server, found) == found, "asking twice adds nothing"


@pytest.mark.parametrize("nothing", [answer({"code": "route_not_found"}, 404), answer({"cosignatures": []})])
def test_a_server_without_cosignatures(server: FakeServer, nothing: Answer) -> None:
    bundle = server.deployment.bundle(1)
    server.answers[COSIGNATURES] = nothing
    assert fetched(server, bundle) == bundle
    with Client(server.url) as client:
        assert client.session(client.attestation(NONCE), NONCE, API_KEY, None).cosignatures == ()


def test_a_path_that_the_server_does_not_have_is_left_out(server: FakeServer) -> None:
    bundle = server.deployment.bundle(1)
    server.deployment.append(b"later")
    give(server, server.deployment.tree.size)
    server.answers[PATH] = answer({"code": "not_in_log"}, 404)
    found = fetched(server, bundle)
    assert (len(found.cosignatures), found.consistency) == (1, ())


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"cosignatures": None},
        {"cosignatures": {}},
        {"cosignatures": [1]},
        {"cosignatures": [{}]},
        {"cosignatures": [{"cosignature": "x"}]},
        {"cosignatures": [{"cosignature": "x", "head": "??"}]},
        {"cosignatures": [{"cosignature": "x", "head": "", "more": ""}]},
        {"cosignatures": [], "more": []},
        {"cosignatures": [{"cosignature": "x", "head": ""}] * (MAX_COSIGNATURES + 1)},
    ],
)
def test_answers_that_are_none(server: FakeServer, value: object) -> None:
    server.answers[COSIGNATURES] = answer(value)
    with pytest.raises(RluError) as caught:
        fetched(server, server.deployment.bundle(0))
    assert caught.value.exit_code == 30


@pytest.mark.parametrize(
    "value", [{}, {"path": 1}, {"path": ["?"]}, {"path": [""] * 1000}, {"path": [b64u(b"x")] * 999}]
)
def test_paths_that_are_none(server: FakeServer, value: object) -> None:
    bundle = server.deployment.bundle(0)
    server.deployment.append(b"later")
    give(server, server.deployment.tree.size)
    server.answers[PATH] = answer(value)
    with pytest.raises(RluError) as caught:
        fetched(server, bundle)
    assert caught.value.exit_code == 30


def test_what_cannot_be_read_needs_no_proofs(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = server.deployment.bundle(1)
    server.deployment.append(b"later")
    good = Cosigned(server.deployment.head(), "line")
    assert len(unproven(bundle, [good])) == 2
    under = Cosigned(server.deployment.head(2), "line")  # the head that the session's receipt is under
    assert unproven(bundle, [under]) == []
    assert unproven(bundle, [good, Cosigned(b"x", "line")]) == []
    broken = replace(bundle.session, receipt=b"x")  # type: ignore[type-var]
    assert unproven(replace(bundle, session=broken), [good]) == []
    monkeypatch.setattr(covering, "MAX_PROOFS", 1)
    assert len(unproven(bundle, [good])) == 1
