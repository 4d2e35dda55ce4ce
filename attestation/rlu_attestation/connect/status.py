"""What the user is told: one line for people, one JSON object for machines. No content, no secret."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from rlu_attestation.connect.apis import advise
from rlu_attestation.printing import printable
from rlu_attestation.verdict import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """One line.

    Attributes:
        event: `verified`, `waived` (verified except for the waivers that are named), `rejected`, `unreachable`, `unproven` (one answer
            that nothing proves), `closed` (a session ended, and its receipts are all it had).
        code, message: why, when something is wrong.
        claims: of the instance: name to value and how it is known.
        expires: until when this holds, in seconds since the epoch.
    """

    event: str
    code: str = ""
    message: str = ""
    instance: str = ""
    model: str = ""
    region: str = ""
    session: str = ""
    expires: int | None = None
    waivers: tuple[str, ...] = ()
    receipts: int | None = None

    def line(self) -> str:
        """For people."""
        word = self.event.upper() if self.event in _LOUD else self.event
        parts = [word + (f" ({', '.join(self.waivers)})" if self.waivers else "")]
        if self.code:
            parts.append(f"{self.message} [{self.code}]. {advise(self.code)}")
        named = (("instance", self.instance), ("model", self.model), ("region", self.region))
        parts += [f"{name} {value}" for name, value in (*named, ("session", self.session)) if value]
        if self.receipts is not None:
            parts.append(f"{self.receipts} {'receipt' if self.receipts == 1 else 'receipts'}")
        if self.expires is not None:
            moment = datetime.fromtimestamp(self.expires, timezone.utc)
            parts.append(f"until {moment:%Y-%m-%dT%H:%M:%SZ}")
        return printable("rlu connect: " + " · ".join(parts))

    def to_json(self) -> dict[str, Any]:
        """For machines; the keys are stable, and those without a value are left out."""
        value = {
            "event": self.event,
            "code": self.code,
            "message": self.message,
            "advice": advise(self.code) if self.code else "",
            "instance": self.instance,
            "model": self.model,
            "region": self.region,
            "session": self.session,
            "expires": self.expires,
            "waivers": list(self.waivers),
            "receipts": self.receipts,
        }
        return {name: found for name, found in value.items() if found not in ("", None, [])}


_LOUD = frozenset({"waived", "rejected", "unproven", "unreachable"})


def region_of(verdict: Verdict) -> str:
    """The region with how it is known, such as `eu-1 (endorsed)`."""
    return next((f"{c.value} ({c.source.value})" for c in verdict.claims if c.name == "region"), "")


def waivers_of(verdict: Verdict) -> Sequence[str]:
    """Codes of what was waived."""
    return sorted({step.code for step in verdict.waivers})
