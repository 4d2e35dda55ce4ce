"""One schedule from start to end: a deployment, clients, faults, repair, and what the observer says of it."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e import proofs
from e2e.caller import Answer, Caller
from faults.deployment import Faulted
from faults.injectors import Injectors
from faults.losses import lost_together
from faults.observer import RECOVERY_S, Observed, Violation, unexpected, violations
from faults.schedule import Schedule, Step
from faults.traffic import Call, Traffic, clients
from rlu_attestation.encoding import unb64u
from rlu_attestation.statements import SessionStatement
from rlu_server.selftest.node import RLU, NodeError

SAMPLE_S = 0.5
TAIL_S = 0.5
LOOK_S = 0.2
GONE_S = 60.0
MAX_PROVEN = 6
"""Sessions that are verified byte by byte; of all others the log tells."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one schedule."""

    schedule: Schedule
    observed: Observed
    violations: tuple[Violation, ...]
    made: tuple[Step, ...]
    omitted: tuple[str, ...]
    proven: int
    seconds: float
    said: str
    """What the deployment said, without content."""


def run(schedule: Schedule, manufactured: Path, plant: Callable[[Traffic], None] | None = None) -> Outcome:
    """Make it, in a directory of its own.

    Args:
        manufactured: directory of a software TPM, of which a copy is used.
        plant: told of the clients before anything happens; for tests of the observer.
    """
    began = time.monotonic()
    # Not below a long path: a socket's has 107 characters at most.
    with tempfile.TemporaryDirectory(prefix="rlu-f-") as directory:
        home = Path(directory)
        home.chmod(0o711)
        deployment = Faulted(home, manufactured, schedule.workers, schedule.seed)
        try:
            deployment.prepare()
            trial = _Trial(schedule, deployment)
            if plant is not None:
                plant(trial.traffic)
            observed = asyncio.run(trial.run_or_give_up())
            said = deployment.log.read_text("utf-8", "replace")
        finally:
            deployment.abandon()
    found = tuple(violations(observed))
    made, omitted = tuple(trial.injectors.done), tuple(trial.injectors.omitted)
    return Outcome(schedule, observed, found, made, omitted, trial.proven, time.monotonic() - began, said)


class _Trial:
    def __init__(self, schedule: Schedule, deployment: Faulted) -> None:
        self._schedule = schedule
        self._deployment = deployment
        self.traffic = Traffic(deployment, schedule.seed)
        self.injectors = Injectors(deployment, self.traffic)
        self.proven = 0
        self._before: dict[str, int] = {}
        self._most: dict[str, int] = {}

    async def run_or_give_up(self) -> Observed:
        """Interrupted, no thread goes on waiting."""
        try:
            return await self.run()
        except BaseException:
            self._deployment.give_up()
            raise

    async def run(self) -> Observed:
        await asyncio.to_thread(self._deployment.start)
        if await self._recovered() is None:
            raise NodeError(f"it did not serve before anything was broken: {self._deployment.tail()}")
        sampling = asyncio.create_task(self._sample())
        working = clients(self.traffic)
        try:
            await self._break()
            recovered = await self._recovered()
            await asyncio.sleep(TAIL_S)
        finally:
            self.traffic.ended.set()
            # Each call has a bound of its own.
            await asyncio.gather(*working)
            sampling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sampling
        unproven = [] if recovered is None else await asyncio.to_thread(self._unproven)
        status, left = await asyncio.to_thread(self._end)
        return Observed(
            calls=self.traffic.calls,
            opened=self.traffic.opened,
            closed=self.traffic.closed,
            logs=self._deployment.logs(),
            unproven=unproven,
            memory={role: (self._before.get(role, most), most) for role, most in self._most.items()},
            recovered_s=recovered,
            audit=await asyncio.to_thread(self._audit),
            exit_status=status,
            restarted=self.injectors.stopped,
            left=[*self.injectors.left, *left],
            errors=unexpected(told := self._told()),
            lost=lost_together(told),
            attestor_restarted=any(event["event"] == "attestor.exited" for event in told),
        )

    async def _break(self) -> None:
        async def later(number: int) -> None:
            step = self._schedule.steps[number]
            await asyncio.sleep(step.at)
            await self.injectors.make(step)

        last = [step for step in self._schedule.steps if (step.kind, step.target) == ("kill", "supervisor")]
        together = [n for n, step in enumerate(self._schedule.steps) if step not in last]
        await asyncio.gather(*map(later, together))
        await self.injectors.mended()
        for step in last:
            await self._recovered()
            await self.injectors.make(step)

    async def _recovered(self) -> float | None:
        """Seconds until every tenant has a new session and a whole answer in it."""
        began = time.monotonic()
        while time.monotonic() - began < RECOVERY_S:
            if not self._deployment.running:
                return None
            for tenant in self._deployment.api_keys:
                opened = await self.traffic.open(tenant)
                if opened is None:
                    break
                call = await self.traffic.ask(tenant, session=opened.session)
                if (call.status, call.outcome) != (200, "whole"):
                    break
            else:
                return time.monotonic() - began
            await asyncio.sleep(LOOK_S)
        return None

    async def _sample(self) -> None:
        self._before = self._deployment.resident()
        while True:
            for role, size in self._deployment.resident().items():
                self._most[role] = max(self._most.get(role, 0), size)
            await asyncio.sleep(SAMPLE_S)

    def _unproven(self) -> list[str]:
        """Sessions that are still open are verified as their principal would: statement, receipts, contents, close."""
        found: list[str] = []
        serving: str | None = None
        wholes: dict[str, list[Call]] = {}
        for call in self.traffic.calls:
            if call.outcome == "whole" and call.receipt is not None:
                wholes.setdefault(call.receipt[0], []).append(call)
        for one in reversed(self.traffic.opened):
            caller = Caller(
                self._deployment.port, self._deployment.certificate, self._deployment.api_keys[one.tenant]
            )
            if self.proven >= MAX_PROVEN:
                break
            # The instance's own statement is to be had of the one that opens sessions now.
            issuer = SessionStatement.parse(unb64u(one.statement)).issuer
            serving = issuer if serving is None else serving
            if issuer != serving:
                continue
            try:
                if caller.get(f"/v1/rlu/sessions/{one.session}").status != 200:
                    continue
                found += self._judged(caller, one.session, wholes.get(one.session, []))
            except (AssertionError, OSError, http.client.HTTPException) as error:
                found.append(f"session {one.session}: {type(error).__name__}: {error}")
            self.proven += 1
        return found

    def _judged(self, caller: Caller, session: str, calls: list[Call]) -> list[str]:
        answers = [Answer(call.status, call.headers, call.request, call.content) for call in calls]
        exchanges = [proofs.exchange(caller, answer) for answer in answers]
        made = proofs.bundle(caller, session, exchanges, close=True)
        self.traffic.closed.append(session)
        # What was signed while the clock was ahead is believed when its time has come.
        ahead = max((step.amount for step in self._schedule.steps if step.kind == "clock"), default=0.0)
        steps = proofs.unproven(proofs.judge(made, at=int(time.time() + max(ahead, 0.0))))
        if len(calls) < sum(call.asked == session for call in self.traffic.calls):
            # Of those that were broken off the client has no receipt to show.
            steps = [step for step in steps if step[2] != "close.running.partial"]
        return [f"session {session}: {' '.join(step)}" for step in steps]

    def _end(self) -> tuple[int | None, list[str]]:
        deployment = self._deployment
        if not deployment.running:
            return None, [f"it ended by itself: {deployment.tail()}"]
        below, runtime = deployment.processes(), deployment.runtime
        try:
            status = deployment.terminate()
        except NodeError as error:
            return None, [str(error)]
        # The kernel ends what is in a process namespace after its launcher, which is a moment later.
        deadline = time.monotonic() + GONE_S
        while (alive := [pid for pid in below if _runs(pid)]) and time.monotonic() < deadline:
            time.sleep(LOOK_S)
        left = [f"process {pid}" for pid in alive]
        return status, [*left, *([str(runtime)] if runtime.exists() else [])]

    def _told(self) -> list[dict[str, Any]]:
        """Every event of the supervisors. Other lines, and half of one, are none."""
        events = []
        for line in self._deployment.log.read_bytes().splitlines():
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                events += [event] if isinstance(event, dict) and "time" in event else []
        return events

    def _audit(self) -> list[str] | None:
        """What an auditor of the log at rest finds."""
        done = subprocess.run(
            [*RLU, "log", "audit", str(self._deployment.log_directory), "--json"],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        try:
            findings = json.loads(done.stdout)["findings"]
        except (ValueError, KeyError):
            return [f"rlu log audit ended with {done.returncode}: {done.stderr[-300:]}"]
        found = [str(finding["code"]) for finding in findings]
        return found if found or done.returncode == 0 else [f"rlu log audit ended with {done.returncode}"]


def _runs(pid: int) -> bool:
    """Not gone, and not waiting for its parent to notice."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return False
