"""Codes of the server explained, in the form that `rlu explain` has for the verifier's."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from rlu_attestation.codes import Explanation, UnknownCode, explain_code
from rlu_server.doctor.words import GROUPS

PLACE = "exit."
"""Exit codes are asked for as numbers too: `rlu doctor 77`."""


def explain(code: str) -> tuple[Explanation, ...]:
    """Every meaning that a code has in the server, the most urgent first; none if it has none."""
    wanted = PLACE + code if code.isdigit() else code
    return tuple(
        Explanation(wanted, "", group.title, "", text.fails, text.remedy, False, group.looks)
        for group in GROUPS
        if (text := group.texts.get(wanted)) is not None
    )


def anywhere(code: str) -> tuple[Explanation, ...]:
    """What a code means to the server, else to the verifier, whose commands run in pods too; none if to nobody."""
    try:
        return explain(code) or (explain_code(code),)
    except UnknownCode:
        return ()


def known() -> Iterator[tuple[str, dict[str, str]]]:
    """Every group's title, with its codes and why each comes."""
    for group in GROUPS:
        yield group.title, {code: text.fails for code, text in sorted(group.texts.items())}


def near(code: str) -> list[str]:
    """Codes that may be meant."""
    codes = [name for group in GROUPS for name in group.texts]
    return list(dict.fromkeys(difflib.get_close_matches(code, codes, 3, 0.6)))
