"""Runs the `rlu` command in this process."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest

from rlu_attestation.cli import main


class Ran(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def rlu(capsys: pytest.CaptureFixture[str], *arguments: object) -> Ran:
    """The exit code, and what was printed."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    code = ended.value.code
    return Ran(code if isinstance(code, int) else 0, out, err)
