"""Every code of the verifier in words, for `rlu explain`: its step, what passing proves, why it fails, what to do, and waivers.

A code is `<step>.<cause>`: `steps` (and `hardware`) say it for a step of the catalogue, `causes` for a cause, whatever the step; `outside`
holds the codes that end a command without a verdict. Whoever adds a step, a cause or a code adds its text here; a test walks DESIGN.md
and the catalogue.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from rlu_attestation.catalogue import STEPS, WAIVABLE
from rlu_attestation.codes.causes import CAUSES
from rlu_attestation.codes.hardware import HARDWARE
from rlu_attestation.codes.outside import OUTSIDE, STRUCTURES
from rlu_attestation.codes.steps import TEXTS as _BUNDLE
from rlu_attestation.codes.steps import Text
from rlu_attestation.errors import RluError

__all__ = ["TEXTS", "Explanation", "UnknownCode", "explain_code", "known_codes"]

TEXTS: dict[str, Text] = {**_BUNDLE, **HARDWARE}
_NOT_CHECKED = "not_checked"
_UNWRITTEN = Text(
    "The detail of the finding says what was wrong.", "See the table of codes in attestation/DESIGN.md."
)


class UnknownCode(RluError):
    """A code that nothing here raises; the message suggests near ones."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Explanation:
    """One code in words.

    Attributes:
        step: id of its step; empty for a code outside a verdict.
        proves: what passing means.
        fails: why it fails.
        remedy: what to do.
        waivable: whether a policy may waive the step, when it could not be made.
        looks: where a code of the server is met; empty for the verifier's.
    """

    code: str
    step: str
    title: str
    proves: str
    fails: str
    remedy: str
    waivable: bool
    looks: str = ""

    def to_json(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in self.__slots__}


def explain_code(code: str) -> Explanation:
    """Explain a code, or a step by its id.

    Raises:
        UnknownCode: `explain.unknown`.
    """
    if code in OUTSIDE:
        fails, remedy = OUTSIDE[code]
        return Explanation(code, "", "outside a verdict: nothing was decided", "", fails, remedy, False)
    found = _of_step(code) or _of_structure(code)
    if found is None:
        near = difflib.get_close_matches(code, _candidates(code), 3, 0.5)
        hint = f"; near it: {', '.join(near)}" if near else ""
        raise UnknownCode(
            "explain.unknown", f"no check has the code {code!r}{hint}; `rlu explain --list` shows all"
        )
    return found


def known_codes() -> dict[str, str]:
    """Steps and codes outside a verdict, each with its title; a step's codes are its id, a point, and causes."""
    return {step: entry.title for step, entry in STEPS.items()} | {
        code: text.fails for code, text in OUTSIDE.items()
    }


def _of_step(code: str) -> Explanation | None:
    step = code
    while step and step not in STEPS:
        step = step.rpartition(".")[0]
    causes = code[len(step) + 1 :].split(".") if len(code) > len(step) else []
    if not step or not all(cause in CAUSES for cause in causes):
        return None
    entry, text = STEPS[step], TEXTS.get(step, _UNWRITTEN)
    place = step.rpartition(".")[2]
    reasons = [CAUSES.get(f"{place}.{cause}", CAUSES[cause]) for cause in causes]
    # A step that was not made says nothing about what it would have found.
    fails = reasons if causes[-1:] == [_NOT_CHECKED] else [*reasons, text.fails]
    remedy = "See the step that it waited for." if causes[-1:] == [_NOT_CHECKED] else text.remedy
    return Explanation(code, step, entry.title, entry.proves, " ".join(fails), remedy, step in WAIVABLE)


def _of_structure(code: str) -> Explanation | None:
    """A parser's own code, such as `tdx.quote.sgx`: evidence that could not even be read."""
    name = next((name for name in STRUCTURES if code == name or code.startswith(f"{name}.")), None)
    if name is None:
        return None
    causes = [cause for cause in code[len(name) + 1 :].split(".") if cause]
    if not all(cause in CAUSES for cause in causes):
        return None
    fails = (
        " ".join(CAUSES[cause] for cause in causes) or "It is not of the form that its specification gives."
    )
    remedy = "Look at it with `rlu inspect`; ask for it again, unchanged and in binary, from where it came."
    return Explanation(code, "", STRUCTURES[name], "", fails, remedy, False)


def _candidates(code: str) -> list[str]:
    stem, _, cause = code.rpartition(".")
    near = difflib.get_close_matches(stem, STEPS, 3, 0.6)
    return list(
        dict.fromkeys(
            [
                *STEPS,
                *OUTSIDE,
                *(f"{step}.{found}" for step in near for found in (*CAUSES, cause) if found in CAUSES),
            ]
        )
    )
