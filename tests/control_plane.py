"""A real Kubernetes control plane for the tests of a run: etcd, API server, and where asked for, controllers and scheduler.

As envtest has it: `KUBEBUILDER_ASSETS` names a directory with `etcd` and `kube-apiserver`, for the second part `kube-controller-manager`
and `kube-scheduler`. There is no kubelet: `Cluster.kubelet` says of pods what one would say.
"""

from __future__ import annotations

import contextlib
import datetime
import http.client
import ipaddress
import json
import os
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from absent_inputs import absent
from ports import free_port

ADMIN = "admin-of-the-tests"
PATIENCE_S = 120.0
Object = dict[str, Any]
T = TypeVar("T")


def asset(name: str) -> Path:
    """The program `name`; without it the test is not run, and the summary says so."""
    directory = os.environ.get("KUBEBUILDER_ASSETS", "")
    if not directory:
        absent("apiserver", "KUBEBUILDER_ASSETS is not set")
    path = Path(directory, name)
    if not path.exists():
        absent("apiserver", f"KUBEBUILDER_ASSETS has no {name}")
    return path


def until(what: str, true: Callable[[], T | None]) -> T:
    """Wait for a state; what was seen, if it was."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        found = true()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"it did not come to this: {what}")


class Status(Exception):
    """An answer of the API server that is no success."""

    def __init__(self, code: int, body: Object) -> None:
        super().__init__(f"{code} {body.get('message', body)}")
        self.code = code
        self.body = body


@dataclass
class Cluster:
    """The API server, as an administrator sees it."""

    port: int
    folder: Path
    claimed: set[str] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def ca(self) -> Path:
        return self.folder / "ca.crt"

    def do(self, method: str, path: str, body: Object | None = None, *, token: str = ADMIN) -> Object:
        """One call. Raises Status."""
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.port, timeout=30, context=ssl.create_default_context(cafile=str(self.ca))
        )
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        try:
            connection.request(
                method,
                path,
                None if body is None else json.dumps(body),
                {"Authorization": f"Bearer {token}", "Content-Type": kind, "Accept": "application/json"},
            )
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        value: Object = json.loads(content) if content[:1] == b"{" else {"message": content.decode()}
        if answer.status >= 300:
            raise Status(answer.status, value)
        return value

    def list(self, path: str) -> list[Object]:
        return list(self.do("GET", path).get("items") or [])

    def namespace(self, name: str, labels: Mapping[str, str] = {}) -> str:
        self.do("POST", "/api/v1/namespaces", {"metadata": {"name": name, "labels": dict(labels)}})
        return name

    def account(self, namespace: str, name: str) -> None:
        """A service account, as a controller would make it."""
        with contextlib.suppress(Status):
            self.do("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": name}})

    def node(self, name: str, labels: Mapping[str, str] = {}, capacity: Mapping[str, str] = {}) -> Object:
        """A node that is ready, and has what is said."""
        self.do(
            "POST",
            "/api/v1/nodes",
            {"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **labels}}},
        )
        amounts = {"cpu": "192", "memory": "2Ti", "pods": "110", "ephemeral-storage": "1Ti", **capacity}
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        ready = {
            "type": "Ready",
            "status": "True",
            "reason": "KubeletReady",
            "lastHeartbeatTime": now,
            "lastTransitionTime": now,
        }
        status = {"capacity": amounts, "allocatable": amounts, "conditions": [ready]}
        self.do("PATCH", f"/api/v1/nodes/{name}/status", {"status": status})
        # Every new node is tainted until a controller finds it ready; none looks after nodes here.
        return self.do("PATCH", f"/api/v1/nodes/{name}", {"spec": {"taints": None}})

    def token(self, namespace: str, account: str, pod: Object | None = None) -> str:
        """A token of a service account, bound to a pod as the kubelet's are."""
        spec: Object = {"expirationSeconds": 3600}
        if pod is not None:
            about = pod["metadata"]
            spec["boundObjectRef"] = {
                "apiVersion": "v1",
                "kind": "Pod",
                "name": about["name"],
                "uid": about["uid"],
            }
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        return str(self.do("POST", path, {"spec": spec})["status"]["token"])

    def kubeconfig(self) -> str:
        named = [{"name": "here", "cluster": {"server": self.url, "certificate-authority": str(self.ca)}}]
        return yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "here",
                "clusters": named,
                "users": [{"name": "here", "user": {"token": ADMIN}}],
                "contexts": [{"name": "here", "context": {"cluster": "here", "user": "here"}}],
            }
        )

    def kubelet(self, namespace: str, name: str, *, ready: bool) -> None:
        """Say of a pod what its node's agent would."""
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        pod = self.do("GET", f"/api/v1/namespaces/{namespace}/pods/{name}")
        state = "True" if ready else "False"
        conditions = [
            {"type": kind, "status": state, "lastTransitionTime": now}
            for kind in ("Ready", "ContainersReady")
        ]
        conditions += [
            {"type": kind, "status": "True", "lastTransitionTime": now}
            for kind in ("PodScheduled", "Initialized")
        ]
        containers = [
            {
                "name": one["name"],
                "ready": ready,
                "restartCount": 0,
                "image": one["image"],
                "imageID": "",
                "started": True,
            }
            | {"state": {"running": {"startedAt": now}}}
            for one in pod["spec"]["containers"]
        ]
        status = {"phase": "Running", "conditions": conditions, "containerStatuses": containers}
        self.do("PATCH", f"/api/v1/namespaces/{namespace}/pods/{name}/status", {"status": status})

    def gone(self, namespace: str, name: str) -> None:
        """End a pod that is being deleted, as its node's agent would when its containers have ended."""
        self.do("DELETE", f"/api/v1/namespaces/{namespace}/pods/{name}", {"gracePeriodSeconds": 0})


@contextlib.contextmanager
def _running(
    folder: Path, name: str, *options: str, program: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen([program or asset(name), *options], stdout=log, stderr=log, cwd=folder)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _keys(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubernetes")])
    now = datetime.datetime.now(datetime.timezone.utc)
    names = x509.SubjectAlternativeName(
        [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    (folder / "ca.crt").write_bytes(certificate.public_bytes(pem))
    (folder / "tls.key").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    signing = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    (folder / "sa.key").write_bytes(
        signing.private_bytes(pem, serialization.PrivateFormat.TraditionalOpenSSL, plain)
    )
    (folder / "tokens.csv").write_text(f"{ADMIN},admin,1,system:masters\n")


@contextlib.contextmanager
def control_plane(folder: Path) -> Iterator[Cluster]:
    """etcd and the API server."""
    etcd, server = asset("etcd"), asset("kube-apiserver")
    _keys(folder)
    store, peers, cluster = free_port(), free_port(), Cluster(free_port(), folder)
    with contextlib.ExitStack() as stack:
        data = _running(
            folder,
            "etcd",
            f"--data-dir={folder / 'etcd'}",
            "--unsafe-no-fsync",
            f"--listen-client-urls=http://127.0.0.1:{store}",
            f"--advertise-client-urls=http://127.0.0.1:{store}",
            f"--listen-peer-urls=http://127.0.0.1:{peers}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peers}",
            f"--initial-cluster=default=http://127.0.0.1:{peers}",
            program=etcd,
        )
        stack.enter_context(data)
        process = stack.enter_context(
            _running(
                folder,
                "kube-apiserver",
                f"--etcd-servers=http://127.0.0.1:{store}",
                "--bind-address=127.0.0.1",
                "--advertise-address=127.0.0.1",
                f"--secure-port={cluster.port}",
                f"--tls-cert-file={folder / 'ca.crt'}",
                f"--tls-private-key-file={folder / 'tls.key'}",
                f"--service-account-key-file={folder / 'sa.key'}",
                f"--service-account-signing-key-file={folder / 'sa.key'}",
                "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
                f"--token-auth-file={folder / 'tokens.csv'}",
                "--authorization-mode=Node,RBAC",
                "--enable-admission-plugins=NodeRestriction",
                "--service-cluster-ip-range=10.96.0.0/16",
                program=server,
            )
        )

        def ready() -> bool:
            assert process.poll() is None, (folder / "kube-apiserver.log").read_text()[-2000:]
            try:
                cluster.do("GET", "/readyz")
                cluster.do("GET", "/api/v1/namespaces/default")
            except (OSError, http.client.HTTPException, Status):
                return False
            return True

        until("the API server is ready", ready)
        yield cluster


@contextlib.contextmanager
def controllers(cluster: Cluster) -> Iterator[None]:
    """The controllers and the scheduler, the real ones."""
    folder = cluster.folder
    config = folder / "kubeconfig"
    config.write_text(cluster.kubeconfig())
    common = (f"--kubeconfig={config}", "--leader-elect=false")
    with (
        _running(
            folder,
            "kube-controller-manager",
            *common,
            "--secure-port=0",
            f"--root-ca-file={cluster.ca}",
            f"--service-account-private-key-file={folder / 'sa.key'}",
            "--use-service-account-credentials=false",
            # No agent renews the nodes' leases here.
            "--controllers=*,-node-lifecycle-controller",
        ),
        _running(folder, "kube-scheduler", *common, "--secure-port=0"),
    ):
        yield
