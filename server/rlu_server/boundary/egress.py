"""What the journal of egress says of a period. Nobody signs it: whoever can write the state directory can change it, so it is *asserted*.

An attempt is noted by the job that made it (`outreach/letters.py`). The report has the digest of the period's lines, so that whoever has
the journal can count again.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import msgspec

from rlu_attestation.boundary.figures import asserted
from rlu_attestation.boundary.report import Figure
from rlu_server.boundary.kept import Unusable
from rlu_server.outreach.letters import BEGUN, Crossing


def figures(journal: Path, begin: int, end: int) -> list[Figure]:
    """The figures of a journal; one that is not there has no lines.

    Raises:
        Unusable: `boundary.egress`: a line that is none, or a file that cannot be read.
    """
    try:
        with journal.open("rb") as file:
            return count(file, begin, end)
    except FileNotFoundError:
        return [asserted("egress.journal", 0, sha256="none")]
    except OSError as error:
        raise Unusable("boundary.egress", f"cannot read {journal}: {error.strerror}") from error


def count(lines: Iterable[bytes], begin: int, end: int) -> list[Figure]:
    """Lines of the period: not before its beginning, and before its end.

    Raises:
        Unusable: `boundary.egress`.
    """
    sums: dict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    digest, number = hashlib.sha256(), 0
    for place, line in enumerate(lines, 1):
        one = _read(line, place)
        if begin <= one.time < end:
            digest.update(line)
            number += 1
            found = sums[one.job, one.destination, one.proxy]
            attempts = one.result != BEGUN
            for at, value in enumerate((attempts, one.result == "sent", one.sent, one.received)):
                found[at] += value
    made = [asserted("egress.journal", number, sha256=digest.hexdigest() if number else "none")]
    for (job, destination, proxy), values in sorted(sums.items()):
        names = ("egress.attempts", "egress.delivered", "egress.sent", "egress.received")
        made += [
            asserted(name, value, destination=destination, job=job, proxy=proxy or "none")
            for name, value in zip(names, values, strict=True)
        ]
    return made


def _read(line: bytes, place: int) -> Crossing:
    try:
        one = msgspec.json.decode(line, type=Crossing)
        if min(one.time, one.sent, one.received) < 0:
            raise msgspec.ValidationError("a number below 0")
        return one
    except msgspec.MsgspecError as error:
        raise Unusable(
            "boundary.egress", f"line {place} of the journal of egress is none of the jobs'"
        ) from error
