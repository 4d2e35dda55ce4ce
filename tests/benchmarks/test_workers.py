"""What is made of the numbers: nothing with too few cores or a generator at its limit."""

from __future__ import annotations

from typing import Any

import pytest

import workers


def result(requests: float, generator: float = 0.5, errors: int = 0) -> dict[str, Any]:
    return {"requests_per_s": requests, "generator_cpu": generator, "errors": errors}


ONE = [result(1000), result(1100), result(900)]


@pytest.mark.parametrize(
    ("more", "cores", "code", "word"),
    [
        ([result(1900), result(1900), result(1700)], 6, 0, "1.89 times (rounds: 1.73 to 1.90)"),
        ([result(1600), result(1900), result(1400)], 8, 1, "1.60 times"),
        ([result(1900), result(1900), result(1700)], 5, 3, "not judged: 5 cores"),
        ([result(1000), result(1000), result(1000)], 2, 3, "not judged: 2 cores"),
        ([result(1900), result(1900, 0.99), result(1700)], 6, 3, "the generator was the limit"),
        ([result(1900), result(1900, errors=1), result(1700)], 6, 1, "requests failed"),
    ],
)
def test_judged(more: list[dict[str, Any]], cores: int, code: int, word: str):
    found, said = workers.judged(ONE, more, cores)
    assert (found, word in said) == (code, True), said


def test_too_few_cores_are_refused_before_anything_is_started(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(workers.os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr("sys.argv", ["workers.py"])
    assert workers.main() == workers.NOT_JUDGED
    assert "6 are needed" in capsys.readouterr().err
