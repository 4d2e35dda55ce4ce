"""What a deployment told: lines of its events counted, and those that are not over made into findings.

Any lines will do: of `rlu serve`, of containers, with or without the prefixes of `kubectl logs --prefix`. Only names, codes, levels and
exit statuses are read; what is no event is counted and not looked at. A trouble of one container or engine is not over because another is
well, so each is counted apart.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from rlu_server.doctor.explaining import anywhere, explain
from rlu_server.doctor.words.events import OF_THE_ENGINE, OF_THE_SUPERVISOR
from rlu_server.preflight.findings import Finding, Severity

RECOVERY: Mapping[str, tuple[str, ...]] = {
    "attestor.exited": ("attestor.ready", "attestor.started"),
    "attestor.refused_to_start": ("attestor.started", "attestor.ready"),
    "attestor.start_failed": ("attestor.ready", "attestor.started"),
    "attestor_lost": ("attestor_connected",),
    "attestor_refused": ("attestor_connected",),
    "auth_refused": ("auth_loaded",),
    "engine.crashed": ("engine.ready", "engine_ready"),
    "engine.exited": ("engine.ready", "engine_ready"),
    "engine.known_answer_wrong": ("engine.ready", "engine_ready"),
    "engine.out-of-memory": ("engine.ready", "engine_ready"),
    "engine.start_failed": ("engine.ready", "engine_ready"),
    "engine_lost": ("engine_ready",),
    "engine_salt_unproven": ("engine_ready",),
    "gateway.exited": ("gateway.ready", "gateway_ready"),
    "gateway.lost": ("gateway.greeted",),
    "gateway.start_failed": ("gateway.ready", "gateway_ready"),
    "gateway_not_ready": ("gateway_ready",),
    "instance.drifted": ("instance.drift_ended",),
    "key.rotation_due": ("key.rotated",),
    "key.rotation_failed": ("key.rotated",),
    "keys_refused": ("keys_loaded",),
    "licence.ending": ("licence.valid",),
    "licence.expired": ("licence.valid", "licence.grace"),
    "licence.grace": ("licence.valid",),
    "licence.invalid": ("licence.valid", "licence.grace"),
    "licence.not_yet": ("licence.valid", "licence.grace"),
    "limits_refused": ("limits_loaded",),
    "model.link_stays": ("model.switched",),
    "model.refused": ("model.switched",),
    "model.switch_failed": ("model.switched",),
    "model.update_failed": ("model.switched",),
    "log.write_failed": ("signer.recovered",),
    "refused": ("serving",),
    "signer.failed": ("signer.recovered",),
    "statement.renewal_failed": ("statement.renewed",),
    "worker_lost": ("worker_ready",),
    "weights.refused": ("weights.opened", "engine.ready", "engine_ready"),
    "worker_refused": ("worker_ready",),
}
"""Events that end a trouble, when one of them comes after it."""
REFUSED = "refused"
"""That a command was ended by a refusal of its own."""
OF_CLIENTS = frozenset({"request_refused", "connection_failed"})
"""A client's matter; of the server's own where the code is one of ours."""
OURS = frozenset(
    {
        "certificate_unverifiable", "drift", "engine_lost", "engine_protocol", "engine_timeout", "engine_unavailable",
        "export_behind", "internal", "licence_expired", "licence_invalid", "licence_not_yet", "not_ready", "overloaded",
        "queue_full", "queue_timeout", "salt_unproven", "sessions_full", "signer_unavailable", "token_unverifiable",
    }
)  # fmt: skip
LEVELS = {"error": Severity.ERROR, "warning": Severity.WARNING, "info": Severity.INFO}
_ERRORS = re.compile(r".*\.(exited|start_failed|known_answer_wrong|out-of-memory|crashed)$|refused$")
_PLAIN = re.compile(r"[a-zA-Z0-9_.:-]{1,64}")
_ERROR = re.compile(rb'\s*"code": "([a-z0-9_.]{3,64})",?\s*')
"""A line of the JSON that a command ends with (`--json`, or a container's start)."""
_PREFIX = re.compile(rb"\[(?:pod/)?([a-zA-Z0-9_./-]{1,320})\]")
MAX_LINE = 64 * 1024


@dataclass(slots=True)
class Count:
    """How often, how bad, and where last among all lines."""

    level: str
    times: int = 0
    last: int = 0


@dataclass(slots=True)
class Told:
    """Everything that was told, by source (a container, an engine in it), event and code. `others`: lines that are no events."""

    events: dict[tuple[str, str, str], Count] = field(default_factory=dict)
    lines: int = 0
    others: int = 0

    def read(self, lines: Iterable[bytes], source: str = "") -> None:
        """Count the events in lines. A prefix names the source better."""
        for line in lines:
            self.lines += 1
            found = _event(line, source)
            if found is None:
                self.others += 1
                continue
            by, event, code, level = found
            count = self.events.setdefault((by, event, code), Count(level))
            count.times += 1
            count.last = self.lines

    def last(self, source: str, event: str) -> int:
        """Where a source told the event last; 0 if never."""
        told = (count.last for (by, name, _), count in self.events.items() if (by, name) == (source, event))
        return max(told, default=0)

    def to_json(self) -> list[dict[str, object]]:
        return [
            {"source": source, "event": event, "code": code, "level": count.level, "count": count.times}
            for (source, event, code), count in sorted(self.events.items())
        ]


def judge_told(told: Told) -> list[Finding]:
    """A finding for each cause: a code where an event has one, else the event. The worst of each."""
    found: dict[str, Finding] = {}
    for (source, event, code), count in told.events.items():
        if count.level == "info":
            continue
        over = any(told.last(source, one) > count.last for one in RECOVERY.get(event, ()))
        made = _finding(source, event, code, count, over)
        before = found.get(made.id)
        if before is None or _rank(made) > _rank(before):
            found[made.id] = made
    return sorted(found.values(), key=lambda one: (-_rank(one), one.id))


def _finding(source: str, event: str, code: str, count: Count, over: bool) -> Finding:
    meanings = (anywhere(code) if code else ()) or explain(event)
    id_ = meanings[0].code if meanings else event
    times = "" if count.times == 1 else f" ({count.times} times)"
    told = (
        event if not code else f"{event}, status {code}" if event.endswith(".exited") else f"{event}, {code}"
    )
    severity = LEVELS[count.level]
    if over or (event in OF_CLIENTS and code not in OURS):
        severity = Severity.INFO
    why = meanings[0].fails if meanings else "not known here; is the log of another version?"
    said = (f"{source}: " if source else "") + f"{told}{times}: {why}" + (" It is over." if over else "")
    if severity is Severity.INFO:
        return Finding(id_, severity, said)
    return Finding(
        id_, severity, said, meanings[0].remedy if meanings else "see the documents of its version"
    )


def _rank(finding: Finding) -> int:
    return list(Severity).index(finding.severity)


def _event(line: bytes, source: str) -> tuple[str, str, str, str] | None:
    """Source, event, code (or exit code) and level; only what looks like names of ours."""
    ended = _ERROR.fullmatch(line)
    if ended is not None:
        return source, REFUSED, ended[1].decode("ascii"), "error"
    start = line.find(b"{")
    if start < 0 or len(line) > MAX_LINE:
        return None
    try:
        value = json.loads(line[start:])
    except (ValueError, RecursionError):
        return None
    event = value.get("event") if isinstance(value, dict) else None
    if not isinstance(event, str) or not _PLAIN.fullmatch(event):
        return None
    code = value.get("code", "")
    if event.endswith(".exited") and isinstance(value.get("status"), int):
        status = value["status"]
        code = str(128 - status if status < 0 else status)
    if not isinstance(code, str) or not _PLAIN.fullmatch(code):
        code = ""
    return _source(line[:start], value.get("engine"), source), event, code, _level(event, value.get("level"))


def _source(before: bytes, engine: object, source: str) -> str:
    """What `kubectl logs --prefix` puts in front, else what was given; and the engine that an event is about."""
    prefix = _PREFIX.match(before)
    named = engine if isinstance(engine, str) and _PLAIN.fullmatch(engine) else ""
    return "/".join(filter(None, (prefix[1].decode("ascii") if prefix else source, named)))


def _level(event: str, said: object) -> str:
    """The supervisor's own events have no level."""
    if isinstance(said, str) and said in LEVELS:
        return said
    if event not in OF_THE_SUPERVISOR and event not in OF_THE_ENGINE:
        return "info"
    return "error" if _ERRORS.match(event) else "warning"
