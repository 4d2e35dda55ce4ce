"""`rlu cluster` as the chart's jobs call it: what reaches the API server, what is said, and which exit code."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from fakes import intel
from fakes.deployment import AT, NONCE, SPKI
from fakes.issuer import Issuer
from fakes.kubernetes import FakeKubernetes
from fakes.publishers import Publishers, pem
from fakes.server import Answer, FakeServer
from fakes.tee import PLATFORM, ROOTS, Tee, padded
from fakes.web_service import Request, Response, WebService
from rlu_server.attestor.collect.tdx import read_collateral
from rlu_server.cli import cluster
from rlu_server.cluster.api import Api
from rlu_server.cluster.rights import ROLES
from rlu_server.outreach.cluster import Cluster

CA = Path("/etc/ssl/certs/ca-certificates.crt")
MAP = "/api/v1/namespaces/ns/configmaps/m"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FakeKubernetes]:
    with FakeKubernetes(tmp_path) as running:
        running.put(MAP, {})
        yield running


def run(server: FakeKubernetes, *words: object, options: tuple[object, ...] = ()) -> Result:
    """A subcommand; `options` are those of `rlu collateral fetch`."""
    place = ("--namespace", "ns", "--api-server", server.url, "--api-ca", CA, "--api-token", server.token)
    line = [*words, *place, *(("--", *options) if options else ())]
    return CliRunner().invoke(cluster.app, [str(word) for word in line])


def held(server: FakeKubernetes) -> dict[str, str]:
    found: dict[str, str] = server.objects[MAP].get("data", {})
    return found


def events(result: Result) -> list[Any]:
    return [json.loads(line) for line in result.stdout.splitlines() if line.startswith('{"event"')]


@pytest.fixture(scope="module")
def publishers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Publishers]:
    with Publishers(tmp_path_factory.mktemp("publishers")) as found:
        yield found


def bare() -> bytes:
    """A bundle of TDX's evidence without collateral."""

    def evidence(_: dict[str, bytes], root: bytes) -> dict[str, bytes]:
        return {"tdx": replace(intel.parts(PLATFORM, padded(root)), collateral=None).item()}

    return replace(Tee("tdx").bundle(evidence), nonce=NONCE, channel=SPKI).encode()


def trusting(place: Path) -> tuple[object, ...]:
    """Options by which its root counts."""
    (place / "tdx.pem").write_bytes(pem(*(root.raw for root in ROOTS["tdx"])))
    policy = place / "policy.toml"
    policy.write_text('version = 1\n[trust]\nroots = { tdx = ["tdx.pem"] }\n')
    return ("--policy", policy, "--as-of", AT)


def test_collateral_goes_from_vendors_to_the_directory_of_the_attestor(
    server: FakeKubernetes, publishers: Publishers, tmp_path: Path
) -> None:
    fetch = (*trusting(tmp_path), "--proxy", publishers.proxy, "--ca", publishers.authorities)
    with FakeServer(tmp_path) as instance:
        instance.answers["/v1/rlu/attestation"] = Answer(200, bare())
        job = ("collateral", "--configmap", "m", "--instance", instance.url)
        done = run(server, *job, options=fetch)
        assert done.exit_code == 0, done.output
        # One instance that is not up costs the exit code, and nobody the collateral of the others.
        partly = run(server, *job, "--instance", "https://127.0.0.1:1", options=fetch)
    assert events(done)[-1] == {"event": "collateral_published", "files": 2, "changed": True}
    assert partly.exit_code == 3
    assert [one["event"] for one in events(partly)] == ["instance_skipped", "collateral_published"]
    assert events(partly)[0] == {"event": "instance_skipped", "instance": 1, "code": "server.unreachable"}
    # What the kubelet would make of it.
    place = tmp_path / "mounted"
    place.mkdir()
    for name, data in cluster.publish.published(_api(server), "m").items():
        (place / name).write_bytes(data)
    assert read_collateral(place) is not None


def test_vendors_who_never_answer_do_not_keep_back_what_was_had(
    server: FakeKubernetes, tmp_path: Path
) -> None:
    with FakeServer(tmp_path) as instance, socket.create_server(("127.0.0.1", 0)) as proxy:
        instance.answers["/v1/rlu/attestation"] = Answer(200, bare())
        job = ("collateral", "--configmap", "m", "--within", 1, "--instance", instance.url)
        # Connections to that proxy are made, and that is all.
        address = f"127.0.0.1:{proxy.getsockname()[1]}"
        silent = (*trusting(tmp_path), "--proxy", address, "--timeout", 600)
        done = run(server, *job, "--instance", instance.url, options=silent)
    assert done.exit_code == 3
    *late, published = events(done)
    assert [(one["instance"], one["code"]) for one in late] == [
        (0, "cluster.fetch_late"),
        (1, "cluster.fetch_late"),
    ]
    # The second was not asked any more; nor was the first, if this machine stood still for that second.
    assert late[1]["event"] == "instance_skipped"
    assert published == {"event": "collateral_published", "files": 0, "changed": False}


def _api(server: FakeKubernetes) -> Any:
    return Api(Cluster(server.url, CA, server.token), "ns", ("publish",))


@pytest.fixture
def issuer() -> Iterator[tuple[str, list[bytes]]]:
    """Address of an issuer's key set, and the one that it answers with."""
    answer = [Issuer("one").jwks()]

    class Issuing(WebService):
        def respond(self, request: Request) -> Response:
            return Response(200, answer[0])

    with Issuing() as made:
        yield f"{made.url}/jwks", answer


def test_key_sets_are_checked_and_nothing_else_is_touched(
    server: FakeKubernetes, issuer: tuple[str, list[bytes]]
) -> None:
    url, answer = issuer
    server.put(MAP, {"data": {"ca.pem": "CA"}, "binaryData": {"crl.pem": "Q1JM"}})
    job = ("key-sets", "--configmap", "m", "--jwks", f"a.json={url}")
    assert run(server, *job).exit_code == 0
    first = held(server)
    assert set(first) == {"ca.pem", "a.json"}
    # The same again writes nothing; one that is no key set leaves what there was.
    patches = server.calls.count(("PATCH", MAP))
    assert events(run(server, *job))[-1] == {"event": "key_sets_published", "files": 1, "changed": False}
    answer[0] = b"{}"
    bad = run(server, *job)
    assert bad.exit_code == 30
    assert [one["event"] for one in events(bad)] == ["key_set_kept", "key_sets_published"]
    assert held(server) == first
    assert server.calls.count(("PATCH", MAP)) == patches
    answer[0] = Issuer("two").jwks()
    assert run(server, *job).exit_code == 0
    assert held(server) != first
    assert held(server)["ca.pem"] == "CA"
    assert server.objects[MAP]["binaryData"] == {"crl.pem": "Q1JM"}


def test_one_look(server: FakeKubernetes) -> None:
    server.put("/api/v1/nodes/n", {"metadata": {}, "spec": {}})
    found = run(server, "label", "--node", "n", "--once", "--landlock", "99")
    assert found.exit_code == 41
    [said] = events(found)
    assert said["event"] == "node_failed"
    assert "lock.landlock" in said["codes"]
    assert "rlu-certified" not in server.objects["/api/v1/nodes/n"]["metadata"].get("labels", {})


def test_a_sweep(server: FakeKubernetes) -> None:
    server.put("/api/v1/nodes/n", {"metadata": {"labels": {"rlu-certified": "x", "zone": "a"}}, "spec": {}})
    assert events(run(server, "sweep", "--older", 600)) == [{"event": "swept", "nodes": ["n"]}]
    assert server.objects["/api/v1/nodes/n"]["metadata"]["labels"] == {"zone": "a"}
    assert events(run(server, "sweep", "--all")) == [{"event": "swept", "nodes": []}]


@pytest.mark.parametrize("role", list(ROLES))
def test_rights_are_printed_as_rules(role: str) -> None:
    found = json.loads(CliRunner().invoke(cluster.app, ["rights", role]).stdout)
    assert set(found) == {"cluster", "namespace"}
    assert found["cluster"] or found["namespace"]


@pytest.mark.parametrize(
    ("words", "code", "exit_code"),
    [
        (("label", "--node", "n", "--profile", "x"), "cluster.profile", 2),
        (("label", "--node", "n", "--taint", "x"), "cluster.taint", 2),
        (("label", "--node", "absent", "--once"), "cluster.absent", 10),
        (("key-sets", "--configmap", "m", "--jwks", "a"), "cluster.jwks", 2),
        (("key-sets", "--configmap", "m", "--jwks", "a=http://elsewhere.example"), "relay.url", 2),
        (("key-sets", "--configmap", "absent", "--jwks", "a=https://x.example"), "cluster.absent", 10),
    ],
    ids=str,
)
def test_refusals(server: FakeKubernetes, words: tuple[object, ...], code: str, exit_code: int) -> None:
    found = run(server, *words)
    assert found.exit_code == exit_code
    assert code in found.output


def test_outside_a_cluster_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)

    def said(*words: str) -> tuple[int, str]:
        found = CliRunner().invoke(cluster.app, list(words))
        return found.exit_code, found.output

    for words, code in (
        (("sweep",), "relay.cluster"),
        (("sweep", "--api-server", "https://x"), "cluster.address"),
        (("sweep", "--api-server", "https://x", "--api-ca", "a", "--api-token", "b"), "cluster.where"),
        (("rights", "nobody"), "cluster.role"),
    ):
        exit_code, output = said(*words)
        assert (exit_code, code in output) == (2, True), output
