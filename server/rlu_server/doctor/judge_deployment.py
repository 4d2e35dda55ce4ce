"""Findings about a deployment on this machine. A refusal of the server's keeps its code; its remedy is in `words`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone

from rlu_server.doctor.explaining import explain
from rlu_server.doctor.seen import Gateway, Problem, Runtime, Seen, State
from rlu_server.preflight.findings import Finding, error, info, ok, warning

DAY_S = 86400
SOON_S = 30 * DAY_S
LEAST_FREE, LITTLE_FREE = 1 << 28, 4 << 30
"""Of the state volume: the log is fsynced there before anything is released."""
WEAK = {
    "uid_shared": (True, "its user is that of another process"),
    "unlisted_visible": (True, "it sees paths that its profile does not name"),
    "swap": ("on", "swap reaches a disk"),
    "scratch": ("disk", "its scratch is on a disk"),
    "runs": ("exec", "its posture was measured before its program began, not within it"),
}
"""Values that are worth knowing, though the settings allow them."""


def judge_deployment(seen: Seen) -> list[Finding]:
    """All findings, causes before effects."""
    found: list[Finding] = []
    if seen.settings is not None:
        return [_refusal(seen.settings)]
    found.append(ok("deployment.settings", "the configuration is accepted"))
    found += (
        warning("deployment.unsafe", f"{name} is set", "take it out, unless this is a trial")
        for name in seen.unsafe
    )
    if seen.state is not None:
        found += _state(seen.state, seen.now)
    for name, problem in seen.files:
        found.append(ok("deployment.files", f"{name}: usable") if problem is None else _refusal(problem))
    found += map(_refusal, seen.refusals)
    if seen.runtime is not None:
        answers = seen.gateway is not None and (seen.gateway.ready or bool(seen.gateway.reasons))
        found += _runtime(seen.runtime, seen.state, answers=answers)
    if seen.gateway is not None:
        found += _gateway(seen.gateway, running=bool(seen.runtime and seen.runtime.found))
    return found


def _refusal(problem: Problem) -> Finding:
    meanings = explain(problem.code)  # that of a command, where an event has the name too
    remedy = meanings[-1].remedy if meanings else "the message says what to do"
    return error(problem.code, " ".join(problem.message.split()), remedy)


def _state(state: State, now: int) -> Iterator[Finding]:
    if not state.present:
        yield info("deployment.state", "the state directory is not there yet; the first start makes it")
        return
    for problem in state.problems:
        yield _refusal(problem)
    if not state.usable:
        yield warning(
            "deployment.state",
            "this user may not use the state directory",
            "ask as the user who serves, or as root; else what is said here is not whole",
        )
    if state.free < LEAST_FREE:
        yield error(
            "deployment.disk",
            f"{state.free >> 20} MiB are free for state",
            "make room: without it nothing is signed, thus nothing served",
        )
    elif state.free < LITTLE_FREE:
        yield warning(
            "deployment.disk",
            f"{state.free >> 20} MiB are free for state",
            "make room, or export and move old logs",
        )
    if state.hardware:
        yield _enrolment(state.enrolled_until, now)
    if state.due is not None and state.due <= now:
        yield warning(
            "key.rotation_due",
            "the key is older than rotate_days",
            "`rlu keys rotate`, and see `key.rotation_failed`",
        )
    if state.collateral_over:
        yield warning(
            "deployment.collateral",
            f"{state.collateral_over} pieces of collateral are over",
            "fetch them anew: `rlu collateral fetch --for-attestor`",
        )


def _enrolment(until: int | None, now: int) -> Finding:
    if until is None:
        return error(
            "enrolment.missing", "no registrar has enrolled this TPM", explain("enrolment.missing")[0].remedy
        )
    day = datetime.fromtimestamp(until, timezone.utc).strftime("%Y-%m-%d")
    remedy = "enrol again: `rlu keys register`, or by files; then restart"
    if until <= now:
        return error(
            "deployment.enrolment", f"the AK certificate ended {day}: every verification rejects", remedy
        )
    if until - now < SOON_S:
        return warning("deployment.enrolment", f"the AK certificate ends {day}", remedy)
    return ok("deployment.enrolment", f"enrolled until {day}")


def _runtime(runtime: Runtime, state: State | None, *, answers: bool) -> Iterator[Finding]:
    if not runtime.found:
        if answers or (state is not None and state.running):
            yield warning(
                "deployment.runtime",
                "a server runs, but its runtime directory may not be seen",
                "name runtime_dir, or ask as the user who serves",
            )
        else:
            yield error(
                "deployment.runtime",
                "no server runs with this configuration",
                "start it: `rlu serve`; the event `refused` says why not",
            )
        return
    yield ok("deployment.runtime", "a server runs with this configuration")
    if state is not None and state.running is False:
        yield error(
            "deployment.attestor",
            "no attestor has the log open: it has ended, or not come up",
            "see its events: `attestor.refused_to_start`, `attestor.exited`",
        )
    for name in runtime.engines:
        if f"{name}/engine.sock" in runtime.sockets:
            yield ok("deployment.engine", f"{name}: ready")
        elif f"{name}/starting.sock" in runtime.sockets:
            yield info("deployment.engine", f"{name}: loading, or asked for its known answer")
        else:
            yield error(
                "deployment.engine",
                f"{name}: no socket; it is starting, or has ended",
                "see its events: `engine.exited`, `engine.start_failed`, `engine.out-of-memory`",
            )
    for process, posture in sorted(runtime.postures.items()):
        for name, (weak, words) in WEAK.items():
            if name in posture and posture[name] == weak:
                yield info("deployment.posture", f"{process}: {words}")


def _gateway(gateway: Gateway, *, running: bool) -> Iterator[Finding]:
    if gateway.ready:
        yield ok("deployment.gateway", "the gateway is ready")
        return
    for code in gateway.reasons:
        meanings = explain(code)
        if meanings:
            yield error(code, f"/readyz: {meanings[0].fails}", meanings[0].remedy)
        else:
            yield error("deployment.gateway", f"/readyz: {code}", "is the gateway of another version?")
    if gateway.refused and running:
        yield error(
            "deployment.gateway",
            "nobody listens on the gateway's port",
            "it starts last: see the attestor's and the engine's events",
        )
    elif gateway.failure and running:
        yield error("deployment.gateway", f"the gateway does not answer: {gateway.failure}", "see its events")
    elif gateway.failure:
        yield error(
            "deployment.port",
            f"somebody else answers on the gateway's port ({gateway.failure})",
            "find it, or set another [gateway] port",
        )
