"""What an operator sees while the server starts and runs: steps with times on a terminal, JSON lines otherwise.

Only events are shown, which are names, codes and counts. What cannot be written, because the disk behind standard output is full or
nobody reads it any more, is dropped: serving does not depend on it.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time

from rich.console import Console

SAYS = {
    "measuring": "measuring the model",
    "attestor.starting": "starting the attestor",
    "attestor.ready": "attestor ready: the key is in its hardware, the log is open",
    "attestor.exited": "the attestor ended; no new session until it is back",
    "engine.starting": "starting the engine (vLLM), locked: no network, no disk",
    "engine.known_answer": "engine loaded; asking for its known answer",
    "engine.model_not_verified": "the model's signature was NOT verified (model.signature = unsafe-optional); the statement says so",
    "engine.known_answer_wrong": "engine: WRONG answer to the known prompt; it does not serve",
    "engine.ready": "engine ready",
    "engine.exited": "the engine ended; it is started again, sessions stay",
    "gateway.starting": "starting the gateway",
    "gateway.ready": "gateway listening",
    "gateway.exited": "the gateway ended; it is started again",
    "metrics_listening": "metrics for whoever can reach them",
    "proving": "gateway verifies the attestor and proves the engine",
    "serving": "serving",
    "draining": "draining: finishing what runs, signing every session's close",
    "stopped": "stopped; scratch wiped",
    "engine.loading": "engine: loading weights",
    "engine.preparing": "engine: preparing memory",
    "engine.out-of-memory": "engine: out of memory",
    "engine.crashed": "engine: its core died",
    "signer.failed": "the signer fails; new sessions are refused",
    "signer.recovered": "the signer works again",
    "instance.changed": "the instance changed; its sessions are closed",
    "model.switching": "another version of the model is there and verified: draining, then it is loaded",
    "model.switched": "the other version of the model is served",
    "model.refused": "another version of the model is there and was REFUSED; the old one stays",
    "model.switch_failed": "the engine does not start with the other version; the old one is started again",
    "model.link_stays": "the model's link could not be put back: `rlu update rollback`",
    "model.update_failed": "an update of the model failed; what is served did not change",
}
FAILURES = (
    "exited",
    "start_failed",
    "model.refused",
    "switch_failed",
    "link_stays",
    "update_failed",
    "known_answer_wrong",
    "out-of-memory",
    "crashed",
    "signer.failed",
)
ONCE = frozenset({"engine.loading", "engine.preparing"})


class Steps:
    """Prints steps with the time since the start."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._said: set[str] = set()

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._began

    def say(self, text: str, *, style: str = "") -> None:
        self._console.print(
            f"[dim]{self.elapsed_s:6.1f} s[/dim]  {text}", style=style, highlight=False, soft_wrap=True
        )

    def event(self, name: str, values: dict[str, str | int]) -> None:
        """Show an event of the server, if it is one for people."""
        text = SAYS.get(name)
        ending = "draining" in self._said and name.startswith("engine.")
        if text is None or ending or (name in ONCE and name in self._said):
            return  # an engine that is told to end reports that its core died
        self._said.add(name)
        if "status" in values:
            text += f" (status {values['status']})"
        if "at" in values:
            text += f": {values['at']}"
        with contextlib.suppress(OSError):
            self.say(text, style="yellow" if name.endswith(FAILURES) else "")


class JsonLines:
    """Writes every event as a line of JSON to standard output."""

    def event(self, name: str, values: dict[str, str | int]) -> None:
        line = {
            "time": round(time.time(), 3),
            "event": name,
            **{k: v for k, v in values.items() if k != "time"},
        }
        with contextlib.suppress(OSError):
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()
