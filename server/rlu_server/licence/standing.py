"""Is a licence in force? One decision for server and command line; the time is an argument, and never earlier than the latest one known.

    before `nbf`                              not_yet   no session is opened
    up to the end                             valid
    from the end to the end + grace           grace     sessions are opened, and everybody who looks is told
    after that                                expired   no session is opened; those that are open finish

The end is `exp`, or the moment at which the vendor withdrew it, if that is earlier.
"""

from __future__ import annotations

from dataclasses import dataclass

from rlu_server.licence.document import WITHDRAWN, Answer, Licence

DAY_S = 86400
WARN_DAYS = (1, 7, 14, 30)
AHEAD_S = 60
"""How far the vendor's clock may be ahead of ours."""
REFUSALS = {"not_yet": "licence_not_yet", "expired": "licence_expired"}


@dataclass(frozen=True, slots=True)
class Standing:
    """How a licence stands at a time."""

    state: str
    ends_at: int
    refuses_at: int
    warning: int | None
    """The least of `WARN_DAYS` within which it ends; None: later, or over."""

    @property
    def refusal(self) -> str | None:
        """The code with which sessions are refused; None: they are opened."""
        return REFUSALS.get(self.state)


def judge(licence: Licence, answer: Answer | None, at: int) -> Standing:
    """How it stands.

    Args:
        answer: the vendor's last one, if any.
        at: seconds since the epoch; `latest` of what is known of the time.
    """
    ends = licence.expires_at
    if answer is not None and answer.licence == licence.id and answer.status == WITHDRAWN:
        ends = min(ends, answer.issued_at)
    refuses = ends + licence.grace_s
    if at < licence.not_before - AHEAD_S:
        state = "not_yet"
    elif at < ends:
        state = "valid"
    else:
        state = "grace" if at < refuses else "expired"
    left = ends - at
    warning = next((days for days in WARN_DAYS if left <= days * DAY_S), None) if state == "valid" else None
    return Standing(state, ends, refuses, warning)
