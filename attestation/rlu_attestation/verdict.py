"""What a verification found: every step with its outcome, every claim with its source, and one exit code.

A verdict never hides a check: what could not be made is a failed step with a code of its own, what a policy waives is shown as waived,
and what does not apply is listed as that. Only a verdict in which every step passed or does not apply is *verified*.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any


class Outcome(str, enum.Enum):
    """How one step ended."""

    PASSED = "passed"
    FAILED = "failed"
    WAIVED = "waived"
    NOT_APPLICABLE = "not_applicable"


class Source(str, enum.Enum):
    """How a claim is known (design P8), strongest first."""

    HARDWARE = "hardware"
    """It is in evidence that hardware signed."""
    MEASURED = "measured"
    """A PCR or report measurement covers it."""
    ENDORSED = "endorsed"
    """A registrar or vendor that the policy names signed it."""
    ASSERTED = "asserted"
    """The server says so."""

    def at_least(self, minimum: Source) -> bool:
        """Whether this source is as strong as another or stronger."""
        order = list(Source)
        return order.index(self) <= order.index(minimum)


class Blame(str, enum.Enum):
    """Why a step failed, in the words of `rlu_attestation.errors`."""

    UNTRUSTED = "untrusted"
    REFUSED = "refused"
    MALFORMED = "malformed"
    UNSUPPORTED = "unsupported"
    DEPENDENCY = "dependency"
    """Another step failed, and this one needs what that one would have proved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One check: `id` is stable; `code` is empty unless it failed or was waived; `proves` is what passing means.

    `subject` tells repeated steps apart, such as those of each receipt; it is empty for the others.
    """

    id: str
    title: str
    subject: str = ""
    outcome: Outcome
    code: str = ""
    detail: str = ""
    proves: str = ""
    blame: Blame | None = None

    def to_json(self) -> dict[str, Any]:
        value: dict[str, Any] = {"id": self.id, "title": self.title, "outcome": self.outcome.value}
        if self.subject:
            value["subject"] = self.subject
        if self.code:
            value["code"] = self.code
        if self.detail:
            value["detail"] = self.detail
        if self.outcome is Outcome.PASSED:
            value["proves"] = self.proves
        return value


@dataclass(frozen=True, slots=True)
class Claim:
    """Something a verified statement says, and how it is known."""

    name: str
    value: str
    source: Source

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "value": self.value, "source": self.source.value}


class Result(str, enum.Enum):
    """The verdict in one word."""

    VERIFIED = "verified"
    WAIVED = "verified_except_waivers"
    REJECTED = "rejected"
    UNSUPPORTED = "unsupported"
    MALFORMED = "malformed"


LEFT_OPEN = "; which software was started is left open"
"""Ends the detail of `policy.measurements` when what the policy names does not say it."""

EXIT_CODES = {
    Result.VERIFIED: 0,
    Result.REJECTED: 10,
    Result.WAIVED: 11,
    Result.UNSUPPORTED: 20,
    Result.MALFORMED: 30,
}
"""Further exit codes of the command line: 1 internal error, 2 usage, 3 unreachable."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """A witness saw a state of the log.

    Attributes:
        witness: its name, as the policy names it.
        time: by the witness's clock, in seconds since the epoch.
        tree_size: entries that the log had in that state.
    """

    witness: str
    time: int
    tree_size: int

    def to_json(self) -> dict[str, Any]:
        return {"witness": self.witness, "time": self.time, "tree_size": self.tree_size}


@dataclass(frozen=True, slots=True)
class Witnessed:
    """Every statement of the log that was verified existed no later than `by`, as witnesses that the policy names saw. It says nothing of
    how much earlier they were made, nor of the instance statement, which is no entry of the log.

    Attributes:
        by: seconds since the epoch: when as many witnesses as the policy requires, at least one, had seen them.
        sightings: of all witnesses that saw them, earliest first.
    """

    by: int
    sightings: tuple[Sighting, ...]

    def to_json(self) -> dict[str, Any]:
        return {"by": self.by, "sightings": [sighting.to_json() for sighting in self.sightings]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The steps in order, the claims of the statements that verified, and what the checks of time and freshness rest on.

    Attributes:
        covers: what was verified, of `instance`, `session`, `receipts`, `close`.
        at: the time every check used, in seconds since the epoch.
        witnessed: by when the session, receipts and close here existed, if witnesses prove it.
        policy: SHA-256 of the policy file, empty for none.
        emulated: the TPM is a software one.
        freshness: `verifier` when the nonce (of evidence alone: what it must be about) is the caller's own, `asserted` when it comes with
            the bundle, `none` without one.
    """

    steps: tuple[Step, ...]
    claims: tuple[Claim, ...]
    covers: tuple[str, ...]
    at: int
    freshness: str
    policy: bytes
    emulated: bool = False
    witnessed: Witnessed | None = None

    @property
    def time(self) -> str:
        """`witnessed` when witnesses bound the time of every log entry here; else `asserted`: it is the word of server and caller."""
        return "asserted" if self.witnessed is None else "witnessed"

    @property
    def result(self) -> Result:
        """What is definitely false outranks what cannot be read, and that outranks what is not implemented."""
        blames = {step.blame for step in self.steps if step.outcome is Outcome.FAILED}
        if blames & {Blame.UNTRUSTED, Blame.REFUSED}:
            return Result.REJECTED
        if Blame.MALFORMED in blames:
            return Result.MALFORMED
        if Blame.UNSUPPORTED in blames:
            return Result.UNSUPPORTED
        if blames or not any(step.outcome is Outcome.PASSED for step in self.steps):
            return Result.REJECTED
        if any(step.outcome is Outcome.WAIVED for step in self.steps):
            return Result.WAIVED
        return Result.VERIFIED

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.result]

    @property
    def failures(self) -> tuple[Step, ...]:
        return tuple(step for step in self.steps if step.outcome is Outcome.FAILED)

    @property
    def waivers(self) -> tuple[Step, ...]:
        return tuple(step for step in self.steps if step.outcome is Outcome.WAIVED)

    def step(self, step_id: str, subject: str = "") -> Step:
        """The step of this id and subject; `KeyError` if there is none."""
        for step in self.steps:
            if (step.id, step.subject) == (step_id, subject):
                return step
        raise KeyError(step_id)

    def to_json(self) -> dict[str, Any]:
        """For machines; the keys are stable."""
        value: dict[str, Any] = {
            "result": self.result.value,
            "exit_code": self.exit_code,
            "covers": list(self.covers),
            "at": self.at,
            "time": self.time,
            "freshness": self.freshness,
            "policy_sha256": self.policy.hex(),
            "emulated": self.emulated,
            "steps": [step.to_json() for step in self.steps],
            "claims": [claim.to_json() for claim in self.claims],
        }
        if self.witnessed is not None:
            value["witnessed"] = self.witnessed.to_json()
        return value
