"""The support bundle: what somebody else may see of a deployment. Everything in it is composed here, from allow-lists.

Nothing is copied: no file, no log line, no message, no text that an operator, a client or a model could have written. Settings keep
their numbers and switches; of texts only those that are choices between words of ours. Events, codes and findings keep their names if
they are ours, and are counted; postures and metrics keep names and words of the fixed sets. Tenants and models are summed up.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from prometheus_client.parser import text_string_to_metric_families
from pydantic import BaseModel

from rlu_attestation.models import SIGNATURE_RESULTS
from rlu_attestation.profiles import BUILT_IN
from rlu_server.doctor.explaining import anywhere
from rlu_server.doctor.seen import Posture
from rlu_server.doctor.telling import Told
from rlu_server.doctor.words.machine import FINDINGS as MACHINE
from rlu_server.preflight.findings import Finding

VERSION = 1
LABELS = frozenset({"engine", "kind", "priority", "route", "state", "status", "le"})
"""Labels of metrics that are kept: engines by our names, and words of fixed sets."""
GIVEN, EMPTY = "(set)", "(empty)"
POSTURE = frozenset(
    {
        "abstract_sockets", "call_filter", "calls_attributes", "calls_debug", "calls_dumpable", "calls_io_uring", "calls_ipc",
        "calls_kernel", "calls_keys", "calls_mount", "calls_namespaces", "calls_terminal", "capabilities",
        "capability_bounds", "changes_outside", "core_limit", "core_memory", "device_ioctl", "dies_with_parent", "dumpable",
        "environment_unlisted", "execute_memory", "execute_programs", "execute_scratch", "fast_open", "inherited_files",
        "ipc", "landlock_abi", "lock", "memory_locked", "metadata_outside", "netlink", "network", "no_new_privileges",
        "other_sockets", "processes", "profile", "raw_sockets", "read_outside", "runs", "scratch", "shared_memory",
        "signal_outside", "swap", "tcp_bind", "tcp_connect", "truncate_outside", "udp", "uid", "uid_shared",
        "unlisted_visible", "write_outside_scratch",
    }
)  # fmt: skip
"""The names of a posture (`lock/rlu_lock.py`)."""
_WORD = re.compile(r"[a-z0-9/][a-z0-9_./{}+-]{0,39}", re.ASCII)
_VERSION = re.compile(
    r"\d{1,4}(\.\d{1,4}){1,3}((rc|a|b|\.post|\.dev)\d{1,4})?(\+(cpu|cu\d{2,3}|rocm\d{2,4}))?", re.ASCII
)
_VALUE = re.compile(r"[a-z0-9][a-z0-9_,-]{0,399}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Part:
    """One file of the bundle, and what it is, for who decides whether to hand it out."""

    name: str
    what: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """How far an instance's log goes; `signed` is its last head, base64url (FORMATS section 5)."""

    instance: str
    entries: int
    in_use: bool
    signed: str = ""


def compose(
    *,
    at: int,
    versions: Mapping[str, str],
    settings: BaseModel | None,
    findings: Sequence[Finding],
    told: Told,
    postures: Mapping[str, Posture],
    facts: Mapping[str, Any],
    metrics: bytes,
    heads: Sequence[Head],
) -> tuple[Part, ...]:
    """All parts.

    Args:
        metrics: in Prometheus' text format; empty where they could not be had.
        known_posture: the names that postures have.
    """
    parts = (
        (
            "versions.json",
            "versions of RLU, Python, the kernel and libraries",
            dict(sorted(versions.items())),
        ),
        (
            "settings.json",
            "settings: numbers, switches and words of ours; of other texts only whether they are set",
            None if settings is None else _settings(settings),
        ),
        (
            "findings.json",
            "what rlu doctor found: names, and severities",
            [_finding(one) for one in findings],
        ),
        ("events.json", "events by name and code, counted", _told(told)),
        (
            "facts.json",
            "what is stated of engine, hardware and signatures; no names, no digests",
            _facts(facts),
        ),
        (
            "postures.json",
            "what each process measured of its lock",
            _postures(postures),
        ),
        ("metrics.json", "metrics without tenants and models", _metrics(metrics)),
        (
            "log_heads.json",
            "keys by their public digests, and how long their logs are",
            [_head(one) for one in heads],
        ),
    )
    made = [Part(name, what, _encode(value)) for name, what, value in parts]
    about = {"rlu_support_bundle": VERSION, "made": at, "files": {part.name: part.what for part in made}}
    return (Part("about.json", "this list", _encode(about)), *made)


def pack(parts: Sequence[Part], at: int) -> bytes:
    """The parts as a tar file; the same parts make the same bytes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for part in parts:
            about = tarfile.TarInfo(f"rlu-support/{part.name}")
            about.size, about.mtime, about.mode = len(part.content), at, 0o600
            archive.addfile(about, io.BytesIO(part.content))
    return out.getvalue()


def _encode(value: object) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=True).encode() + b"\n"


def _finding(finding: Finding) -> dict[str, str]:
    kept = {"id": finding.id, "severity": finding.severity.value}
    if not anywhere(finding.id):
        return {**kept, "id": "other"}
    return {**kept, "found": finding.found} if finding.id in MACHINE else kept


def _told(told: Told) -> dict[str, object]:
    """Names that are explained, or are of the normal course and ours; all others are counted together."""
    events: Counter[tuple[str, str, str]] = Counter()
    for (_, event, code), count in told.events.items():
        name = event if _ours(event) else "other"
        events[name, code if not code or _ours(code) else "other", count.level] += count.times
    rows = [
        {"event": event, "code": code, "level": level, "count": times}
        for (event, code, level), times in sorted(events.items())
    ]
    return {"lines": told.lines, "others": told.others, "events": rows}


def _ours(name: str) -> bool:
    return bool(anywhere(name)) or name in _normal() or re.fullmatch(r"errno\.\d{1,3}", name) is not None


def _normal() -> frozenset[str]:
    """Events of the normal course."""
    from rlu_server.adapters import events as gateway
    from rlu_server.attestor.events import Event
    from rlu_server.supervisor.progress import SAYS

    return frozenset({*get_args(gateway.Event), *(event.value for event in Event), *SAYS})


def _postures(postures: Mapping[str, Posture]) -> dict[str, object]:
    return {
        process: {name: _measured(value) for name, value in sorted(posture.items()) if name in POSTURE}
        for process, posture in sorted(postures.items())
        if process in ("attestor", "engine", "gateway")
    }


def _measured(value: bool | int | str) -> bool | int | str:
    if isinstance(value, str) and not _VALUE.fullmatch(value):
        return "other"
    return value


def _metrics(text: bytes) -> dict[str, dict[str, float]]:
    found: dict[str, Counter[str]] = {}
    for family in text_string_to_metric_families(text.decode("utf-8", "replace")):
        for sample in family.samples:
            if not sample.name.startswith("rlu_") or not _WORD.fullmatch(sample.name):
                continue
            kept = sorted((name, value) for name, value in sample.labels.items() if name in LABELS)
            labels = ",".join(f"{name}={_label(name, value)}" for name, value in kept)
            found.setdefault(sample.name, Counter())[labels] += sample.value  # type: ignore[assignment]
    return {name: dict(sorted(series.items())) for name, series in sorted(found.items())}


def _label(name: str, value: str) -> str:
    if name == "le":
        return value if re.fullmatch(r"[0-9.e+-]{1,24}|\+Inf", value) else "other"
    return value if _WORD.fullmatch(value) else "other"


def _head(head: Head) -> dict[str, object]:
    return {
        "instance": head.instance,
        "entries": head.entries,
        "in_use": head.in_use,
        "signed": head.signed,
    }


def _facts(facts: Mapping[str, Any]) -> dict[str, object]:
    """Of each model the engine's version and what came of its signature; the hardware profile if it is a built-in one."""
    models = [facts, *_objects(facts.get("further_models"))] if facts else []
    profile = _inner(facts, "hardware").get("profile")
    return {
        "profile": profile if profile in BUILT_IN else "other",
        "models": [
            {
                "engine": _version(_inner(one, "engine").get("version")),
                "signature": _choice(_inner(_inner(one, "model"), "signature").get("result")),
            }
            for one in models
        ],
    }


def _inner(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = value.get(name)
    return found if isinstance(found, dict) else {}


def _objects(values: object) -> list[Mapping[str, Any]]:
    return [one for one in values if isinstance(one, dict)] if isinstance(values, list) else []


def _version(text: object) -> str:
    return text if isinstance(text, str) and _VERSION.fullmatch(text) else "other"


def _choice(word: object) -> str:
    return str(word) if word in SIGNATURE_RESULTS else "other"


def _settings(section: BaseModel) -> dict[str, object]:
    return {
        name: _kept(getattr(section, name), field.annotation)
        for name, field in type(section).model_fields.items()
    }


def _kept(value: Any, annotation: Any) -> object:
    """A value as far as it can hold nothing of anybody's."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, BaseModel):
        return _settings(value)
    if isinstance(value, str):
        words = get_args(annotation) if get_origin(annotation) is Literal else ()
        return value if value in words else GIVEN if value else EMPTY
    if isinstance(value, dict):
        return {"entries": len(value)}
    if isinstance(value, (list, tuple)):
        return _listed(value)
    return GIVEN


def _listed(values: Sequence[Any]) -> object:
    """Numbers as they are; of vLLM's arguments the names of flags; of anything else how many there are."""
    if values and all(isinstance(one, int) for one in values):
        return list(values)
    if values and all(isinstance(one, BaseModel) for one in values):
        return [_settings(one) for one in values]
    flags = [one.partition("=")[0] for one in values if isinstance(one, str)]
    known = [one for one in flags if one in ENGINE_FLAGS]
    return {"entries": len(values), "flags": known} if known else {"entries": len(values)}


ENGINE_FLAGS = frozenset(
    {
        "--async-scheduling", "--data-parallel-size", "--dtype", "--enable-auto-tool-choice", "--enable-chunked-prefill",
        "--enable-expert-parallel", "--enable-prefix-caching", "--enforce-eager", "--gpu-memory-utilization", "--kv-cache-dtype",
        "--max-model-len", "--max-num-batched-tokens", "--max-num-seqs", "--pipeline-parallel-size", "--quantization",
        "--reasoning-parser", "--scheduling-policy", "--tensor-parallel-size", "--tool-call-parser",
    }
)  # fmt: skip
"""Flags of vLLM's that are named; whatever else stands among its arguments is counted."""
