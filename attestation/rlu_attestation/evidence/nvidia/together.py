"""One check for many devices: all are looked at, and one refusal tells of all that failed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from rlu_attestation.errors import RluError
from rlu_attestation.evidence.nvidia.item import Device

S = TypeVar("S")
T = TypeVar("T")

_ABSENT = ".missing"


def each(subjects: Iterable[tuple[str, S]], check: Callable[[S], T]) -> tuple[T, ...]:
    """The results of a check for every subject, in their order.

    Args:
        subjects: a name for messages, and what to check.

    Raises:
        RluError: with the code of the first failure, and a message that names every subject it failed for. What is false goes before what
            is only absent: a policy may waive that something is missing, and must not waive another subject's failure with it.
    """
    results: list[T] = []
    failures: list[tuple[str, RluError]] = []
    for name, subject in subjects:
        try:
            results.append(check(subject))
        except RluError as error:
            failures.append((name, error))
    if not failures:
        return tuple(results)
    failures.sort(key=lambda failure: failure[1].code.endswith(_ABSENT))
    first = failures[0][1]
    text = "; ".join(
        f"{name}: {error.message}" + ("" if error.code == first.code else f" ({error.code})")
        for name, error in failures
    )
    raise type(first)(first.code, text) from first


def each_device(devices: Sequence[Device], check: Callable[[Device], T]) -> tuple[T, ...]:
    """As `each`, for devices by their names."""
    return each(((device.name, device) for device in devices), check)
