"""What was seen of a deployment on this machine. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Posture = Mapping[str, bool | int | str]


@dataclass(frozen=True, slots=True)
class Problem:
    """A refusal of ours: its code and what it said."""

    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The state directory.

    Attributes:
        usable: whoever asked may read and write there. A server may run as somebody else.
        running: an attestor has its log. None: it could not be told.
        hardware: the key is in hardware that a registrar's enrolment speaks for.
        enrolled_until: end of the AK certificate, seconds since the epoch; None: not enrolled.
        due: when the key is to be rotated.
        collateral_over: pieces of collateral that do not answer any more.
    """

    present: bool
    usable: bool = False
    free: int = 0
    running: bool | None = None
    hardware: bool = False
    enrolled_until: int | None = None
    due: int | None = None
    collateral_over: int = 0
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """The runtime directory of a server that runs.

    Attributes:
        sockets: those that are there, by name below the directory.
        engines: those whose directories may be seen from here; in a pod each container has its own.
        postures: what each process measured of its lock.
        facts: what the attestor is told to state (`instance.json`); empty where it may not be seen.
    """

    found: bool
    sockets: frozenset[str] = frozenset()
    engines: tuple[str, ...] = ()
    postures: Mapping[str, Posture] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """What /readyz said.

    Attributes:
        reasons: codes; empty with `ready`.
        refused: nobody listens on the port. Else `failure` says what went wrong.
    """

    ready: bool = False
    reasons: tuple[str, ...] = ()
    failure: str = ""
    refused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Everything; `settings` is a refusal of them, `refusals` are what a start would refuse, where no server runs."""

    now: int
    settings: Problem | None = None
    state: State | None = None
    files: tuple[tuple[str, Problem | None], ...] = ()
    runtime: Runtime | None = None
    gateway: Gateway | None = None
    unsafe: tuple[str, ...] = ()
    refusals: tuple[Problem, ...] = ()
