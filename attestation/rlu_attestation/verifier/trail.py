"""Runs the steps of a verification and keeps the trail: all failures, not the first.

`Trail.check` runs one check and gives back its value, or a `Failed` that stands for it. A later check unpacks earlier values with `need`,
inside its own function; when one of them is a `Failed`, the later step is recorded as `<step>.not_checked` and names the step it depends
on. So nothing is computed from what did not verify, and no step is silently absent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar, cast

from rlu_attestation.catalogue import STEPS
from rlu_attestation.errors import Malformed, Refused, RluError, Unsupported, Untrusted
from rlu_attestation.verdict import Blame, Outcome, Step

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Failed:
    """Stands for the value of a step that did not pass, or that was waived and has none."""

    step: str
    waived: bool = False


class NotMade(RluError):
    """The check could not be made because its input is absent: a failure, unless the policy waives the step."""

    exit_code = 10


class Waived(RluError):
    """The check did not pass, and the policy or the caller accepts exactly that, by a setting named for it.

    `value` is what the check would have given.
    """

    exit_code = 11

    def __init__(self, code: str, message: str, value: object = None) -> None:
        super().__init__(code, message)
        self.value = value


def absent_is_not_made(check: Callable[[], T]) -> T:
    """Run a check whose input may be absent, which evidence kinds tell by a code that ends in `.missing`: that is a check not made."""
    try:
        return check()
    except Untrusted as error:
        if error.code.endswith(".missing"):
            raise NotMade(error.code, error.message) from error
        raise


class NotApplicable(Exception):
    """There is nothing to check, by the nature of what is verified; the step's value is `None`."""


class _DependencyError(Exception):
    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.step)
        self.failed = failed


def need(value: T | Failed) -> T:
    """The value of an earlier step; ends the current check as not made when that step did not pass."""
    if isinstance(value, Failed):
        raise _DependencyError(value)
    return value


def blocking(results: Iterable[object]) -> Failed | None:
    """The first result that stands for a step that neither passed nor was waived."""
    return next((result for result in results if isinstance(result, Failed) and not result.waived), None)


class Trail:
    """Collects steps in the order they are checked.

    Args:
        waivers: step id to the reason for which the policy waives it.
    """

    def __init__(self, waivers: Mapping[str, str]) -> None:
        self._waivers = waivers
        self._steps: list[Step] = []

    @property
    def steps(self) -> tuple[Step, ...]:
        return tuple(self._steps)

    def check(
        self,
        step: str,
        check: Callable[[], T],
        detail: Callable[[T], str] | None = None,
        subject: str = "",
    ) -> T | Failed:
        """Run one check.

        Args:
            step: its id, one of the catalogue.
            check: returns what it proved, or raises `RluError` or one of the exceptions above.
            detail: says in words what was found, given the value.
            subject: tells repeated steps apart.
        """
        try:
            value = check()
        except NotApplicable as nothing:
            self._record(step, subject, Outcome.NOT_APPLICABLE, detail=str(nothing))
            return cast(T, None)
        except _DependencyError as dependency:
            missing = dependency.failed
            why = f"not checked, because {missing.step} {'is waived' if missing.waived else 'did not pass'}"
            # A waiver reaches what builds on a waived step, but only where it is waived by name itself.
            reason = self._waivers.get(step) if missing.waived else None
            return self._not_made(step, subject, f"{step}.not_checked", why, reason, Blame.DEPENDENCY)
        except Waived as waiver:
            self._record(step, subject, Outcome.WAIVED, waiver.code, waiver.message)
            return cast(T, waiver.value)
        except NotMade as error:
            return self._not_made(
                step,
                subject,
                _code(step, error.code),
                error.message,
                self._waivers.get(step),
                Blame.REFUSED,
            )
        except RluError as error:
            self._record(step, subject, Outcome.FAILED, _code(step, error.code), error.message, _blame(error))
        else:
            found = "" if detail is None else detail(value)
            self._record(step, subject, Outcome.PASSED, detail=found)
            return value
        return Failed(step)

    def _not_made(
        self, step: str, subject: str, code: str, why: str, reason: str | None, blame: Blame
    ) -> Failed:
        if reason is None:
            self._record(step, subject, Outcome.FAILED, code, why, blame)
        else:
            why = f"{why}; waived by the policy: {reason}"
            self._record(step, subject, Outcome.WAIVED, code, why)
        return Failed(step, waived=reason is not None)

    def _record(
        self,
        step: str,
        subject: str,
        outcome: Outcome,
        code: str = "",
        detail: str = "",
        blame: Blame | None = None,
    ) -> None:
        entry = STEPS[step]
        self._steps.append(
            Step(
                id=step,
                title=entry.title,
                subject=subject,
                outcome=outcome,
                code=code,
                detail=detail,
                proves=entry.proves,
                blame=blame,
            )
        )


def _code(step: str, code: str) -> str:
    """A failure's code begins with its step: `signature.invalid` of `receipt.inclusion` is `receipt.inclusion.invalid`."""
    if code == step or code.startswith(step + "."):
        return code
    first, _, last = code.rpartition(".")
    return f"{step}.{last if not step.endswith('.' + last) else first}"


def _blame(error: RluError) -> Blame:
    if isinstance(error, Malformed):
        return Blame.MALFORMED
    if isinstance(error, Unsupported):
        return Blame.UNSUPPORTED
    return Blame.REFUSED if isinstance(error, Refused) else Blame.UNTRUSTED
