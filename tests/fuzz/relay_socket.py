"""Fuzz the relay over real sockets: a whole gateway, clients that send what no client should, engines that answer what no engine should.

    python tests/fuzz/relay_socket.py [--seconds N | --batches N] [--seed S] [--first B] [--mode client|engine]

What a batch sends follows from seed, mode and batch number alone; `--first B --batches 1` makes one again. (How the loop interleaves the
connections does not.) After every batch:

1. the gateway serves: a request on a new connection is answered, nothing internal failed;
2. what a connection received is HTTP, with no more answers than requests could have been sent, and in order where it was valid;
3. no bytes of another connection's content are in it (every request has a marker, which the engine repeats);
4. nothing reached the engine but routes of the allow list;
5. every exchange that the attestor numbered has exactly one receipt;
6. no connection, exchange, task, place, descriptor or held memory is left.

Exit codes: 0 nothing found, 1 something (printed, with how to repeat it).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import random
import re
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1] / "benchmarks")]

import httptools  # noqa: E402
import uvloop  # noqa: E402
from relay_inputs import ALLOWED, MARKER, Plan, answer_of, plan_of  # noqa: E402

import fakes.rig  # noqa: E402
from fakes.rig import ResponseReader, Rig  # noqa: E402
from rlu_server.adapters import prober  # noqa: E402
from rlu_server.adapters.arrivals import Arrivals  # noqa: E402
from rlu_server.adapters.client import Connection  # noqa: E402
from rlu_server.adapters.exchange import Exchange  # noqa: E402
from rlu_server.adapters.http1 import Incoming  # noqa: E402
from rlu_server.attestor import messages  # noqa: E402
from scripted import Engine, ScriptBook  # noqa: E402
from scripted.application import Reply  # noqa: E402

CONNECTIONS = 40
"""Of a batch, all at once."""
PATIENCE_S = 20.0
SETTINGS = {
    "max_body_bytes": 64 * 1024,
    "max_header_bytes": 8 * 1024,
    # Long enough for valid requests on a slow machine, short enough to wait for those that never end.
    "header_timeout_s": 3.0,
    "body_timeout_s": 3.0,
    "idle_timeout_s": 3.0,
    "response_timeout_s": 1.0,
}
KEPT = (Connection, Exchange, Incoming, Arrivals)


class Broken(AssertionError):
    """An invariant does not hold."""


class Repeating(Engine):
    """An engine that repeats the markers of a request, and in the mode `engine` answers as no engine should."""

    def __init__(self, book: ScriptBook, *, inspect: bool) -> None:
        super().__init__(book, inspect=inspect)
        self.hostile = False
        self.seed = ""
        self.strays: list[tuple[bytes, bytes]] = []

    def reply(self, method: bytes, target: bytes, body: bytes) -> Reply:
        if (method, target) not in ALLOWED:
            self.strays.append((method, target))
        found = MARKER.findall(body)
        if not found:
            return super().reply(method, target, body)
        draw = random.Random(f"{self.seed}:{found[0].decode()}")
        return answer_of(draw, target, body, found, hostile=self.hostile)


@dataclass
class Heard:
    """What one connection got."""

    plan: Plan
    received: bytearray = field(default_factory=bytearray)


async def play(port: int, plan: Plan) -> Heard:
    """One connection from its beginning to its end."""
    heard = Heard(plan)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def listen() -> None:
        if plan.reads:
            while data := await reader.read(65536):
                heard.received += data

    listening = asyncio.create_task(listen())
    try:
        # RuntimeError is uvloop's word for a connection that has ended.
        with contextlib.suppress(ConnectionError, RuntimeError):
            for piece, pause_s in plan.pieces:
                writer.write(piece)
                await asyncio.sleep(pause_s)
            if plan.ending == "half":
                writer.write_eof()
            if plan.ending != "leave":
                await asyncio.wait_for(listening, PATIENCE_S)
    except asyncio.TimeoutError:
        raise Broken(f"a connection was not ended in {PATIENCE_S:g} s; ending {plan.ending!r}") from None
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        writer.transport.abort()
    return heard


def check_heard(heard: Heard, issued: dict[bytes, int], number: int) -> None:
    """Rules 2 and 3."""
    received = bytes(heard.received)
    for marker in MARKER.findall(received):
        if issued.get(marker, number) != number:
            raise Broken(f"a marker of connection {issued[marker]} is in connection {number}")
    reader = ResponseReader()
    try:
        reader.feed(received)
    except httptools.HttpParserError as error:
        raise Broken(f"what connection {number} received is not HTTP: {error}") from None
    answers = [one for one in reader.done if one.status >= 200]
    current = reader.current
    if current is not None and current.status >= 200:
        answers.append(current)
    plan = heard.plan
    most = plan.sent.count(b"HTTP/") + 1
    if len(answers) > most:
        raise Broken(f"connection {number}: {len(answers)} answers to at most {most} requests")
    if not (plan.valid and plan.ending == "wait"):
        return
    for answer, marker in zip(answers, plan.markers, strict=False):
        found = [one for one in MARKER.findall(answer.content) if one in plan.markers]
        missing = answer.status == 200 and answer.complete and not plan.hostile and not found
        if missing or any(one != marker for one in found):
            raise Broken(f"connection {number}: the answer to {marker!r} has {found}")
    if not plan.hostile and [a.status for a in answers] != [200] * len(plan.markers):
        raise Broken(f"connection {number}: valid requests got {[a.status for a in answers]}")


def shortened(data: bytes) -> bytes:
    return re.sub(rb"(.)\1{100,}", rb"\1[and so on]", data, flags=re.DOTALL)


class Stand:
    """The gateway under test, and what it had before anything was sent."""

    def __init__(self, rig: Rig, seed: str, mode: str) -> None:
        self.rig = rig
        self.seed = seed
        self.hostile = mode == "engine"
        engine = rig.engine
        assert isinstance(engine, Repeating)
        self.engine = engine
        engine.hostile, engine.seed = self.hostile, seed
        self.tasks = len(asyncio.all_tasks())
        self.files = 0
        self.receipts: Counter[tuple[str, int]] = Counter()

    async def batch(self, number: int) -> None:
        draws = [random.Random(f"{self.seed}:{number}:{one}") for one in range(CONNECTIONS)]
        keys = list(self.rig.keys.values())
        plans = [plan_of(draw, keys[one % len(keys)], hostile=self.hostile) for one, draw in enumerate(draws)]
        issued = {marker: one for one, plan in enumerate(plans) for marker in plan.markers}
        port = self.rig.gateway.port
        played = await asyncio.gather(*(play(port, plan) for plan in plans), return_exceptions=True)
        for one, heard in enumerate(played):
            if isinstance(heard, BaseException):
                raise Broken(f"connection {one}: {heard!r}\nsent {shortened(plans[one].sent)!r}")
            try:
                check_heard(heard, issued, one)
            except Broken as broken:
                told = f"sent {shortened(plans[one].sent)!r}\ngot {shortened(bytes(heard.received))!r}"
                raise Broken(f"{broken}\n{told}") from None
        await self.quiet()
        await self.serves()

    async def quiet(self) -> None:
        """Rules 1, 4, 5 and 6."""
        gateway, rig = self.rig.gateway, self.rig
        relay = gateway.relay
        (engine,) = (replica.engine for replica in gateway.engine.replicas)

        def left() -> dict[str, int]:
            found = {
                "connections": len(relay.connections),
                "exchanges": len(relay.exchanges),
                "bytes of content": relay._held.total(),
                "requests at the engine": engine.running,
                "exchanges without a receipt": self._unrecorded(),
            }
            return {name: count for name, count in found.items() if count}

        try:
            await rig.eventually(lambda: not left(), PATIENCE_S)
        except AssertionError:
            raise Broken(f"left over: {left()}") from None
        self._count_receipts()
        twice = [key for key, count in self.receipts.items() if count > 1]
        if twice:
            raise Broken(f"more than one receipt: {twice}")
        if self.engine.strays:
            raise Broken(f"reached the engine: {self.engine.strays}")
        failed = [event for event in rig.events if event["event"] == "internal_error"]
        if failed:
            raise Broken(f"internal errors: {failed}")
        rig.events.clear()

    def _unrecorded(self) -> int:
        return sum(len(session.open) for session in self.rig.attestor.sessions.values())

    def _count_receipts(self) -> None:
        received, self.rig.attestor.received = self.rig.attestor.received, []
        for message in received:
            if isinstance(message, messages.RecordReceipt):
                self.receipts[message.session, message.seq] += 1

    async def serves(self) -> None:
        self._drop_idle()  # an engine of the mode `engine` may never answer on these again
        await self.rig.ready(PATIENCE_S)
        answer = await self.rig.call("/v1/chat/completions", self.rig.chat())
        if answer.status != 200:
            raise Broken(f"a good request got {answer.status}: {answer.content!r}")

    def _drop_idle(self) -> None:
        for replica in self.rig.gateway.engine.replicas:
            replica.engine.tick(asyncio.get_running_loop().time() + 60)

    async def nothing_left(self) -> None:
        """Rule 6, of what may come and go: tasks, objects, descriptors."""
        rig = self.rig
        self._drop_idle()
        rig.wires.clear()
        deadline = time.monotonic() + PATIENCE_S
        while True:
            gc.collect()
            tasks = len(asyncio.all_tasks())
            objects = Counter(type(o).__name__ for o in gc.get_objects() if type(o) in KEPT)
            files = len(os.listdir("/proc/self/fd"))
            self.files = self.files or files
            if tasks <= self.tasks and not objects and files <= self.files:
                return
            if time.monotonic() > deadline:
                raise Broken(
                    f"left over: {tasks} tasks ({self.tasks}), {files} files ({self.files}), {objects}"
                )
            await asyncio.sleep(0.1)


async def fuzz(seed: str, mode: str, first: int, batches: int | None, seconds: float) -> int:
    """How many batches were played. Raises Broken."""
    fakes.rig.Engine = Repeating  # type: ignore[misc]
    prober.TIMEOUT_S = 1.0  # a hostile engine may leave the gateway's own look unanswered, too
    until = time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="rlu-fuzz-") as directory:
        async with Rig(Path(directory), SETTINGS) as rig:
            stand = Stand(rig, seed, mode)
            await stand.serves()
            await stand.nothing_left()
            number = first
            while number < first + batches if batches is not None else time.monotonic() < until:
                try:
                    await stand.batch(number)
                except Broken as broken:
                    raise Broken(f"seed {seed}, mode {mode}, batch {number}: {broken}") from None
                number += 1
            await stand.nothing_left()
    return number - first


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz the relay over sockets.")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--batches", type=int, help="so many batches of each mode instead")
    parser.add_argument("--seed", default=str(random.SystemRandom().randrange(10**9)))
    parser.add_argument("--first", type=int, default=0, help="number of the first batch")
    parser.add_argument("--mode", choices=("client", "engine"), help="default: one after the other")
    asked = parser.parse_args()
    for mode in (asked.mode,) if asked.mode else ("client", "engine"):
        seconds = asked.seconds if asked.mode else asked.seconds / 2
        try:
            played = uvloop.run(fuzz(asked.seed, mode, asked.first, asked.batches, seconds))
        except Broken as broken:
            print(f"FOUND: {broken}")
            return 1
        print(
            f"Done: {played} batches of {CONNECTIONS} connections, mode {mode}, seed {asked.seed}",
            file=sys.stderr,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
