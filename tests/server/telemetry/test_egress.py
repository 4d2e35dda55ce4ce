"""That nothing else leaves: the jobs in a network namespace in which every address is local, and every packet is recorded."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from fakes import namespace
from fakes.deployment import Deployment
from fakes.vendor import DAY, Vendor
from rlu_attestation import policy_signature
from rlu_server.licence.document import Question
from rlu_server.telemetry.report import parse

OUTSIDE = "192.0.2.10"
METRICS = 'rlu_receipts_total{status="complete"} 1234.0\nrlu_tenant_exchanges_total{tenant="acme"} 5.0\n'
RLU = (sys.executable, "-m", "rlu_attestation.cli")
STATEMENT = Deployment(software_key=True).attestation()[0]
LEAK = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.sendto(b'x', ('198.51.100.7', 53))"


@dataclass
class Seen:
    """What happened in the namespace."""

    ran: list[tuple[int, str, str]]
    requests: list[bytes]
    packets: list[tuple[str, str, str]]
    vendor: str
    gateway: str

    def ends(self) -> set[tuple[str, str]]:
        """The servers that were talked to: of each packet, the end that is not an ephemeral port of this machine."""
        known = {self.vendor, self.gateway}
        found = set()
        for protocol, source, target in self.packets:
            found.add((protocol, next((end for end in (source, target) if end in known), target)))
        return found


def watched(directory: Path, *commands: tuple[str, ...], settings: str) -> Seen:
    order = {
        "directory": str(directory),
        "host": OUTSIDE,
        "commands": commands,
        "files": {"rlu.toml": f'state_dir = "{directory}"\n{settings}'},
        "metrics": METRICS,
    }
    # A proxy that somebody set for other programs is not one of ours.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RLU_")}
    environment |= dict.fromkeys(("http_proxy", "https_proxy", "ALL_PROXY"), "http://198.51.100.1:3128")
    ran = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--net", sys.executable, namespace.__file__],
        input=json.dumps(order),
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    seen = json.loads(ran.stdout)
    return Seen(
        [tuple(one) for one in seen["ran"]],
        [base64.b64decode(request) for request in seen["requests"]],
        [tuple(packet) for packet in seen["packets"]],
        seen["vendor"],
        seen["gateway"],
    )


def telemetry(opt_in: str) -> str:
    return f'[telemetry]\nopt_in = {opt_in}\nurl = "{{url}}"\nca_file = "{{ca}}"\nmetrics = "{{metrics}}"\n'


@pytest.fixture
def command(tmp_path: Path) -> tuple[str, ...]:
    private, public = policy_signature.generate("Ed25519")
    (tmp_path / "telemetry-key.pem").write_bytes(private)
    (tmp_path / "telemetry-key.pub.pem").write_bytes(public)
    return (*RLU, "telemetry")


def test_opted_in(tmp_path: Path, command: tuple[str, ...]) -> None:
    """The address of the settings, and the bytes that were shown."""
    config = ("--config", str(tmp_path / "rlu.toml"))
    seen = watched(
        tmp_path, (*command, "show", *config), (*command, "send", *config), settings=telemetry("true")
    )
    (shown, _), (sent, errors) = ((out, err) for _, out, err in seen.ran)
    assert [code for code, _, _ in seen.ran] == [0, 0], errors
    assert sent == "Sent.\n"
    assert seen.ends() == {("tcp", seen.vendor), ("tcp", seen.gateway)}
    (request,) = seen.requests
    head, _, content = request.partition(b"\r\n\r\n")
    assert content == shown.encode()
    assert sorted(head.decode().split("\r\n")) == sorted(
        [
            "POST /v1 HTTP/1.1",
            f"Host: {seen.vendor}",
            "Accept-Encoding: identity",
            f"Content-Length: {len(content)}",
            "Content-Type: application/jose",
        ]
    )
    key = policy_signature.load_public_key((tmp_path / "telemetry-key.pub.pem").read_bytes())
    assert parse(shown, key).complete == 4
    (line,) = map(json.loads, (tmp_path / "egress.jsonl").read_text().splitlines())
    assert (line["destination"], line["sent"], line["job"]) == (seen.vendor, len(content), "telemetry")


def test_not_opted_in(tmp_path: Path, command: tuple[str, ...]) -> None:
    """Not a packet, not even to the gateway; nor with a report that is there already."""
    config = ("--config", str(tmp_path / "rlu.toml"))
    (tmp_path / "report.jws").write_text("a.b.c")
    seen = watched(
        tmp_path,
        (*command, "send", *config),
        (*command, "send", "--report", str(tmp_path / "report.jws"), *config),
        settings=telemetry("false"),
    )
    assert [code for code, _, _ in seen.ran] == [2, 2]
    assert all("[telemetry.off]" in errors for _, _, errors in seen.ran)
    assert seen.packets == []
    assert not (tmp_path / "egress.jsonl").exists()


def test_validating_a_licence(tmp_path: Path) -> None:
    now = int(time.time())
    Vendor().install(tmp_path, not_before=now - DAY, expires_at=now + DAY)
    (tmp_path / "statement.jws").write_text(STATEMENT)
    settings = (
        f'[licence]\nfile = "{tmp_path}/licence.jws"\nvendor_keys = ["{tmp_path}/vendor.pub.pem"]\n'
        'validation_url = "{url}"\nca_file = "{ca}"\n'
    )
    config = ("--config", str(tmp_path / "rlu.toml"))
    seen = watched(
        tmp_path,
        (*RLU, "licence", "show", *config),
        (*RLU, "licence", "validate", "--statement", str(tmp_path / "statement.jws"), *config),
        settings=settings,
    )
    assert [code for code, _, _ in seen.ran] == [0, 30], seen.ran  # this vendor answers with nothing
    assert seen.ends() == {("tcp", seen.vendor)}
    (request,) = seen.requests
    assert request.partition(b"\r\n\r\n")[2] == Question("A-17", STATEMENT).encode()


def test_the_recorder_sees_what_it_should_not(tmp_path: Path) -> None:
    """Without this, the tests above would show nothing."""
    seen = watched(tmp_path, (sys.executable, "-c", LEAK), settings="")
    assert seen.ends() >= {("udp", "198.51.100.7:53")}
