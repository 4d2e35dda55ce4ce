"""Fetching: each want is asked for, checked and written, unless the store has an answer already."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from rlu_attestation.collateral.store import Store, name_of
from rlu_attestation.collateral.want import Ask, Checked, Want
from rlu_attestation.errors import RluError

MAX_WANTS = 512
"""More than any node needs, so that what answers want cannot go on for ever."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What became of one want, of which kind of `evidence`: `file` and `checked` of a piece, or the failure."""

    name: str
    kind: str
    file: str = ""
    checked: Checked | None = None
    kept: bool = False
    failure: RluError | None = None
    evidence: str = ""

    def to_json(self) -> dict[str, Any]:
        value: dict[str, Any] = {"name": self.name, "kind": self.kind}
        if self.failure is not None:
            return {**value, "code": self.failure.code, "message": self.failure.message}
        assert self.checked is not None
        value |= {"file": self.file, "kept": self.kept, "what": self.checked.what}
        if self.checked.until is not None:
            value["until"] = self.checked.until.isoformat()
        return {**value, "warning": self.checked.warning} if self.checked.warning else value


def fetch(wants: Iterable[Want], ask: Ask, store: Store) -> Iterator[Fetched]:
    """Work through the wants, and through what their answers want; one failure does not end the others."""
    waiting = list(wants)
    held = list(store.pieces())
    done = 0
    while waiting and done < MAX_WANTS:
        want = waiting.pop(0)
        done += 1
        kept = _answer(want, held)
        if kept is not None:
            data, checked = kept
        else:
            try:
                data = want.ask(ask)
                checked = want.check(data)
            except RluError as error:
                yield Fetched(want.name, want.kind, failure=error, evidence=want.evidence)
                continue
            store.write(want.kind, data)
            held.append((want.kind, data))
        waiting += [replace(one, evidence=want.evidence) for one in want.then(data)]
        file = name_of(want.kind, data)
        yield Fetched(want.name, want.kind, file, checked, kept is not None, evidence=want.evidence)


def _answer(want: Want, held: Iterable[tuple[str, bytes]]) -> tuple[bytes, Checked] | None:
    """What the store has for a want, if it is authentic and in force."""
    for kind, data in held:
        if kind == want.kind:
            try:
                return data, want.check(data)
            except RluError:
                continue
    return None
