"""The whole gateway under its lock: forks are locked too, measure themselves, and what is stated is true of all."""

from __future__ import annotations

import asyncio
import json
import shutil
import ssl
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from fakes.fleet import Fleet
from fakes.issuer import Authority
from fakes.rig import Wire
from rlu_server import settings as configuration
from rlu_server.attestor import messages
from rlu_server.lock import profiles
from rlu_server.supervisor import plan
from rlu_server.supervisor.runtime import Runtime

PATH = "/v1/chat/completions"
RULES = [{"source": "uri", "pattern": "spiffe://example.org/{tenant}/agent/{principal}"}]


class Locked(Fleet):
    """Started as the supervisor starts it."""

    def launcher(self, config: Path) -> list[str]:
        facts = self.directory / "facts"
        facts.mkdir()
        place = config.rename(facts / plan.CONFIG)
        settings = configuration.load(place, {})
        program = plan.gateway(
            settings, Runtime(self.directory, mounted=False), plan.Host(Path(sys.executable), {}), 0
        )
        profile = profiles.compose("gateway", program.additions)
        profile["require"].pop("swap", None)
        (facts / "profile.json").write_text(json.dumps(profile))
        return profiles.command(
            program.python,
            facts / "profile.json",
            program.additions,
            program.module,
            ["--config", str(place)],
            posture_fd=1,
        )


@pytest.fixture
def directory() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="rlu-", dir="/dev/shm"))
    yield made
    shutil.rmtree(made)


async def test_every_process_is_locked_and_all_of_them_are_stated(directory: Path):
    (directory / "keys").mkdir()
    keys = {"api_keys_file": str(directory / "keys" / "apikeys.json")}
    authority = Authority()
    (directory / "keys" / "ca.pem").write_bytes(authority.pem)
    section = {"mode": "optional", "ca_file": str(directory / "keys" / "ca.pem"), "rules": RULES}
    sections = {"auth": {"certificates": section}}
    async with Locked(directory, keys, {"default": {"events": 4}}, tls=True, sections=sections) as fleet:
        for wire in await fleet.wire_each():
            assert (await fleet.ask(wire, PATH, fleet.chat())).status == 200
        # Contexts for client certificates are made in the forks; who showed one is known in the hub too.
        _, pem = authority.issue(x509.UniformResourceIdentifier("spiffe://example.org/acme/agent/dana"))
        (directory / "client.pem").write_bytes(pem)
        context = ssl.create_default_context(cafile=str(fleet.places.certificate))
        context.load_cert_chain(directory / "client.pem")
        wire = Wire(
            *await asyncio.open_connection(
                "127.0.0.1", fleet.gateway.port, ssl=context, server_hostname="localhost"
            )
        )
        fleet.wires.append(wire)
        used = await fleet.ask(wire, PATH, fleet.chat(), who=None)
        own = await fleet.ask(wire, "/v1/rlu/sessions", None, who=None, method="GET")
        assert [one["session"] for one in own.json()["sessions"]] == [used.session]
        hello = next(m for m in fleet.attestor.received if isinstance(m, messages.Hello))
        stated: dict[str, Any] = hello.posture
        launched = next(json.loads(line) for line in fleet.log.splitlines() if line.startswith('{"'))
        assert stated == launched
        assert (stated["dies_with_parent"], stated["call_filter"], stated["execute_programs"]) == (
            True,
            True,
            False,
        )
        for pid in fleet.gateway.children:
            status = dict(
                line.split(":\t", 1)
                for line in Path(f"/proc/{pid}/status").read_text().splitlines()
                if ":\t" in line
            )
            assert (status["Seccomp"], status["NoNewPrivs"], status["CapEff"]) == ("2", "1", "0" * 16)
        # What dies is replaced under the lock too.
        victim = fleet.worker_pids()[0]
        fleet.kill(victim)
        await fleet.eventually(
            lambda: len([e for e in fleet.gateway.events() if e["event"] == "worker_ready"]) == 3
        )
        assert not [e for e in fleet.gateway.events() if e["event"] == "worker_refused"]
