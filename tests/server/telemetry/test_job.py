"""`rlu telemetry`: shown, kept, sent; from the gateway's own listener; and everything that keeps it from being sent."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fakes.terminal import Ran, rlu
from fakes.vendor import Proxy, Vendor, WebServer
from rlu_attestation import canonical
from rlu_attestation.encoding import unb64u
from rlu_server.gateway.listening import MetricsServer

METRICS = b'rlu_receipts_total{status="complete"} 1234.0\n'


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Path]:
    """The gateway's own listener of metrics, on its socket."""
    loop = asyncio.new_event_loop()
    path = tmp_path / "run" / "gateway" / "metrics.sock"
    server = MetricsServer(path, lambda: METRICS, "text/plain")
    loop.run_until_complete(server.start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield path
    asyncio.run_coroutine_threadsafe(server.close(), loop).result(20)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(20)
    loop.close()


class Site:
    def __init__(self, directory: Path, vendor: WebServer, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory = directory
        self.vendor = vendor
        self._capsys = capsys
        self.config = directory / "rlu.toml"
        self.report = directory / "report.jws"
        self.configure()
        assert self.run("keygen").code == 0

    def configure(self, *, runtime: str = "run", opt_in: str = "true", **changes: str) -> None:
        fields = {"url": self.vendor.url, "ca_file": str(self.vendor.ca_file)} | changes
        lines = "".join(f'{name} = "{value}"\n' for name, value in fields.items())
        place = f'runtime_dir = "{self.directory / runtime}"\n' if runtime else ""
        self.config.write_text(
            f'state_dir = "{self.directory}"\n{place}[telemetry]\nopt_in = {opt_in}\n{lines}'
        )

    def run(self, *arguments: object) -> Ran:
        return rlu(self._capsys, "telemetry", *arguments, "--config", self.config)

    def refusal(self, *arguments: object) -> tuple[int, str]:
        ran = self.run(*arguments)
        return ran.code, ran.err.rpartition("[")[2].strip().rstrip("]")


@pytest.fixture
def site(tmp_path: Path, listener: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Site]:
    with WebServer(tmp_path) as vendor:
        yield Site(tmp_path, vendor, capsys)


def test_shown_kept_and_sent(site: Site) -> None:
    shown = site.run("show")
    assert shown.code == 0
    decoded = json.loads(site.run("show", "--decoded").out)
    assert decoded == canonical.decode(unb64u(shown.out.split(".")[1]))
    assert decoded["complete"] == 4
    assert site.vendor.requests == []
    site.report.write_text(shown.out)
    assert site.run("send", "--report", site.report).code == 0
    assert site.run("send").code == 0
    assert site.vendor.contents == [shown.out.encode()] * 2


def test_shown_without_opting_in(site: Site) -> None:
    site.configure(opt_in="false", url="")
    assert site.run("show").code == 0


def test_through_a_proxy(site: Site) -> None:
    destination = f"127.0.0.1:{site.vendor.port}"
    with Proxy(destination) as proxy:
        site.configure(proxy=proxy.url)
        assert site.run("send").code == 0
        assert proxy.asked == [f"CONNECT {destination}"]
    assert len(site.vendor.requests) == 1


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"opt_in": "false"}, (2, "telemetry.off")),
        ({"url": ""}, (2, "telemetry.url")),
        ({"url": "http://vendor.example/"}, (2, "relay.url")),
        ({"key": "/nowhere.pem"}, (2, "telemetry.no_key")),
        ({"metrics": "ftp://127.0.0.1:1"}, (2, "telemetry.metrics")),
        ({"runtime": ""}, (2, "telemetry.metrics")),
        ({"metrics": "unix:/nowhere.sock"}, (3, "telemetry.unread")),
        ({"ca_file": "/nowhere.pem"}, (2, "telemetry.file")),
        ({"proxy": "socks5://127.0.0.1:1"}, (2, "relay.proxy")),
    ],
    ids=lambda value: str(value),
)
def test_nothing_is_sent(site: Site, changes: dict[str, Any], expected: tuple[int, str]) -> None:
    site.configure(**changes)
    assert site.refusal("send") == expected
    assert site.vendor.requests == []


def test_reports_that_are_not_ours(site: Site) -> None:
    """Whatever stands in the file: only a report that this deployment's key signed leaves."""
    header, payload, signature = site.run("show").out.split(".")
    other = Vendor()
    (site.directory / "telemetry-key.pem").unlink()
    (site.directory / "telemetry-key.pub.pem").unlink()
    site.report.write_text(f"{header}.{payload}.{signature}")
    assert site.refusal("send", "--report", site.report) == (2, "telemetry.no_key")
    (site.directory / "telemetry-key.pem").write_bytes(other.private)
    assert site.refusal("send", "--report", site.report) == (10, "telemetry.key")
    site.report.write_text("a prompt")
    assert site.refusal("send", "--report", site.report) == (30, "telemetry.encoding")
    assert site.vendor.requests == []


def test_keys_of_another_kind(site: Site) -> None:
    (site.directory / "telemetry-key.pem").write_bytes(Vendor("ES256").private)
    assert site.refusal("show") == (2, "telemetry.no_key")


def test_a_receiver_that_refuses(site: Site) -> None:
    site.vendor.status = b"403 Forbidden"
    assert site.refusal("send") == (3, "relay.status")
    (line,) = map(json.loads, (site.directory / "egress.jsonl").read_text().splitlines())
    assert (line["result"], line["job"]) == ("relay.status", "telemetry")


def test_without_a_journal(site: Site) -> None:
    ran = site.run("send", "--no-journal")
    assert ran.code == 0
    assert json.loads(ran.err)["result"] == "sent"
    assert not (site.directory / "egress.jsonl").exists()


def test_nothing_leaves_that_cannot_be_noted(site: Site) -> None:
    (site.directory / "egress.jsonl").mkdir()
    assert site.refusal("send") == (2, "telemetry.file")
    assert site.vendor.requests == []


def test_a_key_is_not_overwritten(site: Site) -> None:
    assert site.refusal("keygen") == (2, "file.exists")
