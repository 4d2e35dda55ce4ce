"""Session openings on a slow key: `python benchmarks/slow_signer.py`.

The attestor's own process, log file and socket, with a key that takes 100 ms a signature (a discrete TPM). Openings arrive at random at a
given rate (open loop: they come whether or not earlier ones were answered), each is verified as the gateway does before it lets a
byte through, and its latency runs from when it should have been sent until it was verified. Then the same with one signature an opening.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from bench.machine import described
from rlu_attestation.channel import Channel
from rlu_attestation.encoding import b64u
from rlu_server.attestor import messages
from rlu_server.core.proof import Asked, SessionVerifier, verify_instance

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "slow-signer.json"
TICK_S = 0.002
FACTS: dict[str, Any] = {
    "boundary": "laptop",
    "engine": {"arguments_sha256": b64u(bytes(32)), "name": "vllm", "version": "0.32.0"},
    "hardware": {"profile": "cpu"},
    "model": {"manifest_sha256": b64u(bytes(32)), "name": "demo"},
    "region": "eu-central-1",
    "site": "desk",
}
ASK: dict[str, Any] = {
    "tenant": "tenant-a",
    "principal": "principal-a",
    "nonce": None,
    "cnf_jkt": None,
    "commitment_key_digest": b"\x05" * 32,
    "opening": messages.Commitment(40_000, bytes(32)),
    "ttl_s": 3600,
}


class Side:
    """The gateway's end of the socket: pipelined, every answer verified."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.encode = msgspec.msgpack.Encoder().encode
        self.decode = msgspec.msgpack.Decoder(messages.Answer).decode
        self.due: dict[int, float] = {}
        self.latencies: list[float] = []
        self.refused = 0
        self.signatures: set[bytes] = set()
        self.verifier: SessionVerifier | None = None
        self.asked = Asked(**_asked())

    async def hello(self) -> None:
        request = messages.Hello(
            id=1, gateway_version="bench", tls_origin="plaintext", tls_spki_sha256=None, posture={}
        )
        self.writer.write(self.frame(request))
        welcome = await self.answer()
        assert isinstance(welcome, messages.Welcome), welcome
        instance = verify_instance(
            welcome.statement, welcome.jwk, welcome.issuer, welcome.profile_digest, Channel("plaintext", None)
        )
        self.verifier = SessionVerifier(instance)

    def frame(self, request: messages.Message) -> bytes:
        payload = self.encode(request)
        return len(payload).to_bytes(4, "big") + payload

    async def answer(self) -> messages.Answer:
        size = int.from_bytes(await self.reader.readexactly(4), "big")
        found: messages.Answer = self.decode(await self.reader.readexactly(size))
        return found

    async def send(self, rate: float, duration_s: float) -> None:
        """Openings at random times, `rate` a second on average."""
        dice, start, number = random.Random(1), time.perf_counter(), 1
        at = dice.expovariate(rate)
        while at < duration_s:
            out = []
            while at <= time.perf_counter() - start:
                number += 1
                self.due[number] = start + at
                out.append(self.frame(messages.OpenSession(id=number, **ASK)))
                at += dice.expovariate(rate)
            if out:
                self.writer.write(b"".join(out))
            await asyncio.sleep(TICK_S)

    async def receive(self) -> None:
        assert self.verifier is not None
        while True:
            found = await self.answer()
            due = self.due.pop(found.id)
            if isinstance(found, messages.Failure):
                self.refused += 1
                continue
            assert isinstance(found, messages.SessionOpened), found
            logged = found.logged
            self.verifier.verify(
                found.session, logged.statement, logged.leaf_index, found.receipt, self.asked, time.time()
            )
            self.signatures.add(found.receipt[-64:])
            self.latencies.append(time.perf_counter() - due)


def _asked() -> dict[str, Any]:
    from rlu_attestation.statements import Content

    return {
        "tenant": ASK["tenant"],
        "principal": ASK["principal"],
        "nonce": None,
        "client_key": None,
        "commitment_key": ASK["commitment_key_digest"],
        "opening": Content(40_000, bytes(32)),
        "policies": (),
        "ttl_s": ASK["ttl_s"],
    }


async def measure(socket: Path, rate: float, duration_s: float) -> dict[str, Any]:
    side = Side(*await asyncio.open_unix_connection(str(socket), limit=1 << 24))
    await side.hello()
    receiving = asyncio.create_task(side.receive())
    began = time.perf_counter()
    await side.send(rate, duration_s)
    deadline = time.perf_counter() + 5
    while side.due and time.perf_counter() < deadline and not receiving.done():
        await asyncio.sleep(0.01)
    took = time.perf_counter() - began
    receiving.cancel()
    side.writer.transport.abort()
    if receiving.done() and not receiving.cancelled():
        receiving.result()
    ordered = sorted(side.latencies)
    return {
        "rate_per_s": rate,
        "seconds": duration_s,
        "opened": len(ordered),
        "refused": side.refused,
        "unanswered": len(side.due),
        "opened_per_s": round(len(ordered) / took, 1),
        "p50_ms": _quantile(ordered, 0.5),
        "p99_ms": _quantile(ordered, 0.99),
        "max_ms": _quantile(ordered, 1.0),
    }


def _quantile(ordered: list[float], part: float) -> float | None:
    return round(1000 * ordered[min(int(part * len(ordered)), len(ordered) - 1)], 1) if ordered else None


def run(delay_s: float, rate: float, duration_s: float, batch: int | None) -> dict[str, Any]:
    """One attestor, one load."""
    with tempfile.TemporaryDirectory(prefix="rlu-slow-") as directory:
        home = Path(directory)
        facts = home / "run" / "facts"
        facts.mkdir(parents=True, mode=0o700)
        (facts / "instance.json").write_text(json.dumps(FACTS))
        for role in ("engine", "attestor"):
            (facts / f"{role}.json").write_text("{}")
        config = home / "rlu.toml"
        config.write_text(
            f'state_dir = "{home / "state"}"\nruntime_dir = "{home / "run"}"\n'
            "[attestation]\ninsecure_software_key = true\n"
        )
        (home / "state").mkdir()
        command = [sys.executable, str(HERE / "bench" / "slow_attestor.py"), str(config), str(delay_s)]
        child = subprocess.Popen(command + ([] if batch is None else [str(batch)]))
        socket = home / "run" / "attestor" / "attestor.sock"
        try:
            deadline = time.monotonic() + 20
            while not socket.exists():
                if child.poll() is not None or time.monotonic() > deadline:
                    sys.exit("slow_signer: the attestor did not come up")
                time.sleep(0.02)
            before = _cpu_s(child.pid)
            result = uvloop.run(measure(socket, rate, duration_s))
            result["attestor_cpu_us_per_opening"] = round(
                1e6 * (_cpu_s(child.pid) - before) / max(result["opened"], 1)
            )
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()
        log = (home / "state" / "log" / "log.jsonl").read_bytes()
        result["signatures"] = log.count(b'"kind":"head"')
    return result


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description="Session openings on a slow key.")
    parser.add_argument("--sign-ms", type=float, default=100.0)
    parser.add_argument("--rate", type=float, default=2000.0, help="openings a second")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each round")
    parser.add_argument("--rounds", type=int, default=5, help="of group commit; the one in the middle counts")
    parser.add_argument("--no-write", action="store_true", help="leave results/slow-signer.json as it is")
    options = parser.parse_args()
    delay_s = options.sign_ms / 1000
    rounds = [run(delay_s, options.rate, options.seconds, None) for _ in range(options.rounds)]
    rounds.sort(key=lambda one: float(one["p99_ms"] or 1e9))
    grouped = rounds[len(rounds) // 2]
    single = run(delay_s, 0.8 / delay_s, options.seconds, 1)  # more could not be answered
    ceiling = run(delay_s, options.rate, 5.0, 1)
    result = {
        "machine": described(),
        "sign_ms": options.sign_ms,
        "group_commit": grouped,
        "rounds_p99_ms": [one["p99_ms"] for one in rounds],
        "one_by_one": single,
        "one_by_one_at_the_same_rate": ceiling,
        "ratio": round(grouped["opened_per_s"] / max(ceiling["opened_per_s"], 0.1), 1),
    }
    text = json.dumps(result, indent=1) + "\n"
    print(text, end="")
    if not options.no_write:
        RESULTS.write_text(text)


if __name__ == "__main__":
    main()
