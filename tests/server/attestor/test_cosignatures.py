"""The attestor keeps what the witnesses of its settings signed, on heads of its own instances, and nothing else."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fakes.log_operator import AT, Operator
from rlu_attestation import cose
from rlu_attestation.bundle import MAX_COSIGNATURES
from rlu_attestation.errors import Malformed
from rlu_attestation.log.cosignature import WitnessKey, cosign
from rlu_server.attestor.cosignatures import Cosignatures
from rlu_server.attestor.errors import AttestorError
from rlu_server.attestor.events import EventLog
from rlu_server.core.cosignatures import taken_apart


class Witness:
    def __init__(self, name: str) -> None:
        self.secret = ed25519.Ed25519PrivateKey.generate()
        self.key = WitnessKey(name, self.secret.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))

    def line(self, head: bytes, time: int = AT) -> str:
        return cosign(cose.parse_head(head), time, self.key, self.secret.sign).line


class Desk:
    """The store over a directory, for the logs of some operators."""

    def __init__(self, directory: Path, witnesses: list[Witness], *operators: Operator) -> None:
        self.stream = io.StringIO()
        self.kept = Cosignatures(directory, [one.key.text for one in witnesses], EventLog(self.stream))
        self.keys = {one.issuer: one.jwk for one in operators}
        self.asked: list[str] = []

    def key_of(self, issuer: str) -> Mapping[str, str] | None:
        self.asked.append(issuer)
        return self.keys.get(issuer)

    def offer(self, head: bytes, line: str) -> str:
        return self.kept.offer(taken_apart(1, head, line), self.key_of)

    def found(self, operator: Operator) -> list[tuple[str, int, int]]:
        """Name of the witness, size of the head, time."""
        return [(c.cosignature.name, *c.order) for c in self.kept.of(operator.issuer)]


ONE, TWO, STRANGER = Witness("one"), Witness("two"), Witness("stranger")


def test_of_each_witness_the_one_on_the_largest_head(tmp_path: Path) -> None:
    operator = Operator().grow(8)
    desk = Desk(tmp_path, [ONE, TWO], operator)
    for witness, size, time in ((ONE, 3, AT), (ONE, 8, AT), (ONE, 5, AT + 9), (ONE, 8, AT - 1), (TWO, 2, AT)):
        head = operator.head(size)
        assert desk.offer(head, witness.line(head, time)) == operator.issuer
    assert desk.found(operator) == [("one", 8, AT), ("two", 2, AT)]
    again = Desk(tmp_path, [], operator)  # after a restart, and the settings name no witness any more
    assert again.found(operator) == desk.found(operator)


def test_each_instance_has_its_own(tmp_path: Path) -> None:
    former, current = Operator().grow(5), Operator().grow(2)
    desk = Desk(tmp_path, [ONE], former, current)
    for operator in (former, current, former):
        head = operator.head()
        desk.offer(head, ONE.line(head))
    assert desk.found(former) == [("one", 5, AT)]
    assert desk.found(current) == [("one", 2, AT)]
    assert desk.found(Operator()) == []
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    "what", ["stranger", "other-key", "other-head", "other-instance", "unsigned-head", "other-kid"]
)
def test_everything_else_refuses(what: str, tmp_path: Path) -> None:
    operator, other = Operator().grow(8), Operator().grow(8)
    desk = Desk(tmp_path, [ONE], operator)
    head = operator.head()
    line = ONE.line(head)
    if what == "stranger":
        line = STRANGER.line(head)
    elif what == "other-key":
        line = Witness("one").line(head)
    elif what == "other-head":
        head = operator.head(7)
    elif what == "other-instance":
        head = other.head()
        line = ONE.line(head)
    elif what == "unsigned-head":
        head = other.head(issuer=operator.issuer, kid=operator.kid)
        line = ONE.line(head)
    elif what == "other-kid":
        head = operator.head(kid=other.kid)
    with pytest.raises(AttestorError) as refusal:
        desk.offer(head, line)
    assert refusal.value.code == "cosignature_refused"
    assert list(tmp_path.iterdir()) == []
    # No file is read for somebody who is no witness.
    assert bool(desk.asked) == (what in ("other-instance", "unsigned-head", "other-kid"))


def test_a_damaged_file_is_told_and_replaced(tmp_path: Path) -> None:
    operator = Operator().grow(3)
    desk = Desk(tmp_path, [ONE], operator)
    head = operator.head()
    desk.offer(head, ONE.line(head))
    (path,) = tmp_path.iterdir()
    for damage in (b"", b"[]", b"{}", b'{"cosignatures":[{"head":"AA","cosignature":"x"}]}', b"\xff"):
        path.write_bytes(damage)
        assert desk.found(operator) == []
    events = [json.loads(line)["event"] for line in desk.stream.getvalue().splitlines()]
    assert events == ["log.cosignatures_damaged"] * 5
    desk.offer(head, ONE.line(head))
    assert desk.found(operator) == [("one", 3, AT)]


def test_no_more_are_kept_than_a_bundle_holds(tmp_path: Path) -> None:
    operator = Operator().grow(2)
    witnesses = [Witness(f"w{n:03}") for n in range(MAX_COSIGNATURES + 1)]
    desk = Desk(tmp_path, witnesses, operator)
    for number, witness in enumerate(witnesses):
        head = operator.head(1 if number == 5 else 2)
        desk.offer(head, witness.line(head))
    names = [name for name, _, _ in desk.found(operator)]
    assert len(names) == MAX_COSIGNATURES
    assert "w005" not in names, "the one on the smaller head goes"


def test_settings_name_real_keys(tmp_path: Path) -> None:
    with pytest.raises(Malformed, match=r"cosignature\.encoding"):
        Cosignatures(tmp_path, ["witness.example"], EventLog(io.StringIO()))
