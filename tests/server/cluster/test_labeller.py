"""What the labeller asks of a node's TPM, and who writes to the node beside it; what it does otherwise is in tests/cluster."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.kubernetes import FakeKubernetes
from fakes.node import FakeNode
from rlu_server import preflight, swtpm
from rlu_server.attestor.tpm.connection import Tpm
from rlu_server.attestor.tpm.endorsement import endorsement_key
from rlu_server.cluster import sweep
from rlu_server.cluster.api import Api, Denied, Misuse
from rlu_server.cluster.certify import Names
from rlu_server.cluster.labeller import ATTEMPTS, Labeller, Seen, endorsement_of, weaker_than
from rlu_server.outreach.cluster import Cluster
from rlu_server.preflight import Severity
from rlu_server.swtpm import SoftwareTpm


def test_the_ek_certificate_names_the_tpm(software_tpm: SoftwareTpm) -> None:
    # The same at every look, and nothing stays loaded: an emulator has room for three objects.
    [digest] = {endorsement_of(software_tpm.tcti) for _ in range(4)}
    tpm = Tpm(software_tpm.tcti)
    try:
        with endorsement_key(tpm) as key:
            assert digest == (hashlib.sha256(key.certificate).hexdigest(), ())
    finally:
        tpm.close()


def test_another_tpm_has_another(software_tpm: SoftwareTpm) -> None:
    first = endorsement_of(software_tpm.tcti)
    with tempfile.TemporaryDirectory(prefix="rlu-tpm-") as directory:
        swtpm.manufacture(Path(directory))
        with SoftwareTpm(Path(directory)) as other:
            assert endorsement_of(other.tcti) != first


def test_a_tpm_that_does_not_answer_is_an_error(tmp_path: Path) -> None:
    digest, [problem] = endorsement_of(f"device:{tmp_path / 'none'}")
    assert (digest, problem.id, problem.severity) == ("", "tpm.endorsement", Severity.ERROR)


def test_a_kernel_that_the_lock_would_refuse() -> None:
    assert weaker_than(3, 3) == weaker_than(0, 0) == ()
    [found] = weaker_than(4, 3)
    assert (found.id, found.severity) == ("lock.landlock", Severity.ERROR)


CA = Path("/etc/ssl/certs/ca-certificates.crt")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FakeKubernetes]:
    with FakeKubernetes(tmp_path) as running:
        for name, pool in (("n", "a"), ("m", "b")):
            labels = {"pool": pool, "rlu-certified": "by-hand"}
            running.put(f"/api/v1/nodes/{name}", {"metadata": {"labels": labels}, "spec": {}})
        yield running


def api(server: FakeKubernetes, role: str) -> Api:
    return Api(Cluster(server.url, CA, server.token), "ns", (role,))


def labeller(server: FakeKubernetes, root: Path) -> Labeller:
    """Of a node with swap, whose taints it replaces as a whole."""
    FakeNode(root).put("proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n/dev/sda2 partition 1 0 -2")

    def look() -> Seen:
        seen = preflight.look(root, landlock=7, is_root=False, library="libnvidia-ml-absent.so.1")
        return Seen(seen, tuple(preflight.judge(seen)))

    return Labeller(api(server, "labeller"), "n", None, look, lambda: 1.0, taint="NoSchedule")


def test_a_node_that_somebody_else_writes_to_is_read_again(server: FakeKubernetes, tmp_path: Path) -> None:
    server.rivals = ATTEMPTS - 1
    assert not labeller(server, tmp_path / "root").round().certified
    assert server.objects["/api/v1/nodes/n"]["spec"]["taints"]
    server.rivals = ATTEMPTS - 1
    assert sweep.forget(api(server, "sweep"), Names()) == ["m", "n"]
    assert server.objects["/api/v1/nodes/n"]["spec"] == {}


def test_and_not_for_ever(server: FakeKubernetes, tmp_path: Path) -> None:
    server.rivals = ATTEMPTS
    with pytest.raises(Denied) as refused:
        labeller(server, tmp_path / "root").round()
    assert refused.value.code == "cluster.conflict"


def test_the_sweep_looks_at_its_own_nodes(server: FakeKubernetes) -> None:
    assert sweep.sweep(api(server, "sweep"), Names(), 1000, 600, "pool=a") == ["n"]
    assert "rlu-certified" in server.objects["/api/v1/nodes/m"]["metadata"]["labels"]


def test_without_the_clusters_ca_nothing_is_asked(server: FakeKubernetes, tmp_path: Path) -> None:
    lost = Api(Cluster(server.url, tmp_path / "none", server.token), "ns", ("sweep",))
    with pytest.raises(Misuse) as refused:
        sweep.sweep(lost, Names(), 1000, 600)
    assert refused.value.code == "cluster.address"
    assert server.calls == []
