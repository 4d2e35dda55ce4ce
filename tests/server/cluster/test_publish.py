"""What a job publishes: new pieces, old ones that still answer, within what a ConfigMap takes, and only what changed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from fakes import aws, intel
from fakes.kubernetes import FakeKubernetes
from rlu_attestation import crl
from rlu_attestation.collateral.store import name_of
from rlu_attestation.errors import Malformed, Refused
from rlu_server.attestor.collect import collateral as attestors
from rlu_server.attestor.collect.tdx import read_collateral
from rlu_server.cluster import publish
from rlu_server.cluster.api import Api, Denied
from rlu_server.outreach.cluster import Cluster

LIST = aws.crls()[0]
AT = crl.parse(LIST).this_update + timedelta(minutes=1)
INTEL = intel.parts(intel.Platform(), bytes(64)).pccs()
PATH = "/api/v1/namespaces/ns/configmaps/rlu-collateral"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FakeKubernetes]:
    with FakeKubernetes(tmp_path) as running:
        running.put(PATH, {})
        yield running


def api(server: FakeKubernetes) -> Api:
    return Api(
        Cluster(server.url, Path("/etc/ssl/certs/ca-certificates.crt"), server.token), "ns", ("publish",)
    )


def test_pieces_keep_their_names_and_the_attestor_finds_them(tmp_path: Path) -> None:
    files = publish.collateral([("x509-crl", LIST), ("tdx-collateral", INTEL)], {}, AT)
    assert set(files) == {name_of("x509-crl", LIST), name_of("tdx-collateral", INTEL), "collateral.json"}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    # The whole ConfigMap is each of the attestor's directories.
    assert [found.issuer for found in attestors.load(tmp_path).crls] == [crl.parse(LIST).issuer]
    assert read_collateral(tmp_path) is not None


def test_what_still_answers_stays_and_what_is_over_goes() -> None:
    before = publish.collateral([("x509-crl", LIST), ("tdx-collateral", INTEL)], {}, AT)
    assert publish.collateral([], before, AT) == before
    much_later = AT + timedelta(days=20_000)
    assert publish.collateral([], before, much_later) == {}
    # New ones are as fetched: whoever verifies judges them, and its clock is another.
    assert name_of("x509-crl", LIST) in publish.collateral([("x509-crl", LIST)], before, much_later)


def test_what_is_not_a_piece_does_not_stay() -> None:
    name = name_of("x509-crl", LIST)
    assert publish.collateral([], {name: LIST + b"x", "notes.txt": b"x"}, AT) == {}


def test_old_pieces_give_way_before_a_configmap_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    before = publish.collateral([("tdx-collateral", INTEL)], {}, AT)
    new = publish.collateral([("x509-crl", LIST)], {}, AT)
    monkeypatch.setattr(publish, "MAX_BYTES", publish.size(new) + 100)
    assert publish.collateral([("x509-crl", LIST)], before, AT) == new


def test_only_changes_are_written(server: FakeKubernetes) -> None:
    files = {"a": b"1", "b": b"2"}
    assert publish.publish(api(server), "rlu-collateral", files, {})
    assert publish.published(api(server), "rlu-collateral") == files
    asked = len(server.calls)
    assert not publish.publish(api(server), "rlu-collateral", files, files)
    assert len(server.calls) == asked
    assert publish.publish(api(server), "rlu-collateral", {"b": b"3"}, files)
    assert publish.published(api(server), "rlu-collateral") == {"b": b"3"}


def test_refusals(server: FakeKubernetes) -> None:
    with pytest.raises(Refused) as refused:
        publish.publish(api(server), "rlu-collateral", {"a": b"x" * publish.MAX_BYTES}, {})
    assert refused.value.code == "publish.size"
    server.put(PATH, {"binaryData": {"a": "***"}})
    with pytest.raises(Malformed) as malformed:
        publish.published(api(server), "rlu-collateral")
    assert malformed.value.code == "publish.content"
    with pytest.raises(Malformed) as malformed:
        publish.publish(api(server), "rlu-collateral", {"a": b"\xff"}, {}, publish.TEXT)
    assert malformed.value.code == "publish.content"
    with pytest.raises(Denied) as denied:
        publish.published(api(server), "another")
    assert denied.value.code == "cluster.absent"


def test_time_is_an_argument() -> None:
    assert publish.collateral([], {}, datetime(2026, 1, 1, tzinfo=timezone.utc)) == {}
