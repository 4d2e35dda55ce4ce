"""Files that the gateway has copies of: changed, replaced by links as Kubernetes does, gone, unreadable."""

from __future__ import annotations

from pathlib import Path

import pytest

from fakes.descriptors import none_free
from rlu_server.settings import Settings, load
from rlu_server.supervisor import copies, plan
from rlu_server.supervisor.copies import Copies, Copy
from rlu_server.watched import Stamp, stamp

AUTH = {
    "issuers": [
        {"name": "corp", "issuer": "x", "audience": ["a"], "jwks_file": "/etc/rlu/keys.json", "tenant": "t"},
        {"name": "k8s", "issuer": "y", "audience": ["a"], "review": True, "tenant": "t"},
    ],
    "certificates": {
        "mode": "optional",
        "ca_file": "/etc/rlu/ca.pem",
        "crl_file": "/etc/rlu/crl.pem",
        "rules": [{"source": "dns", "pattern": "{principal}.x", "tenant": "t"}],
    },
    "relay": "https://10.0.0.1:8787",
    "relay_ca_file": "/etc/rlu/relay.pem",
}


def settings(**auth: object) -> Settings:
    return load(None, {}, {"auth": {**AUTH, **auth}})


def test_copies_follow_their_sources(tmp_path: Path):
    told: list[str] = []
    source, target = tmp_path / "source", tmp_path / "target"
    kept = Copies([Copy(source, target)], told.append)
    kept.once()
    assert not target.exists()
    source.write_bytes(b"\xff one")
    kept.once()
    assert target.read_bytes() == b"\xff one"
    before = target.stat().st_ino
    kept.once()
    assert target.stat().st_ino == before
    # A mounted ConfigMap: a link to another directory.
    for version in ("a", "b"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "file").write_text(version)
    source.unlink()
    source.symlink_to(tmp_path / "a" / "file")
    kept.once()
    assert target.read_text() == "a"
    (tmp_path / "new").symlink_to(tmp_path / "b" / "file")
    (tmp_path / "new").replace(source)
    kept.once()
    assert target.read_text() == "b"
    # What cannot be read leaves the copy as it is, and is told once.
    source.unlink()
    source.mkdir()
    kept.once()
    kept.once()
    assert (target.read_text(), told) == ("b", ["target"])
    source.rmdir()
    kept.once()
    assert not target.exists()
    with source.open("wb") as file:
        file.truncate(copies.LARGEST + 1)
    kept.once()
    assert (target.exists(), told) == (False, ["target", "target"])


def test_what_cannot_be_read_for_a_moment(tmp_path: Path):
    told: list[str] = []
    source, target = tmp_path / "source", tmp_path / "target"
    kept = Copies([Copy(source, target)], told.append)
    source.write_text("one")
    kept.once()
    source.write_text("the next one")
    with none_free():
        kept.once()
        kept.once()
    assert (target.read_text(), told) == ("one", ["target"])
    kept.once()
    assert target.read_text() == "the next one"


def test_a_file_that_is_replaced_in_that_moment_is_not_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source, target = tmp_path / "source", tmp_path / "target"
    kept = Copies([Copy(source, target)], lambda name: None)
    source.write_text("one")
    kept.once()
    source.write_text("the next one")

    def late(path: Path) -> Stamp | None:
        found = stamp(path)
        path.unlink()
        return found

    with monkeypatch.context() as patched:
        patched.setattr(copies, "stamp", late)
        kept.once()
    assert target.read_text() == "one"
    source.write_text("and another")
    kept.once()
    assert target.read_text() == "and another"


def test_the_gateway_is_told_the_copies_and_never_the_originals(tmp_path: Path):
    section, found = copies.of_auth(settings(), tmp_path)
    in_force = settings().model_copy(update={"auth": type(settings().auth).model_validate(section)})
    assert {copy.source: copy.target.name for copy in found} == {
        Path("/etc/rlu/keys.json"): "corp.jwks.json",
        Path("/etc/rlu/ca.pem"): "clients-ca.pem",
        Path("/etc/rlu/crl.pem"): "clients-crl.pem",
        Path("/etc/rlu/relay.pem"): "relay-ca.pem",
    }
    assert "/etc/rlu" not in in_force.model_dump_json(include={"auth"})
    assert in_force.auth.issuers[1].jwks_file is None


def test_only_a_relay_that_is_named_can_be_reached():
    assert plan.relay(load(None, {}, {})) == ((), [])
    assert plan.relay(settings()) == ((8787,), [])
    assert plan.relay(settings(relay="unix:/run/rlu-relay/relay.sock")) == ((), [Path("/run/rlu-relay")])
