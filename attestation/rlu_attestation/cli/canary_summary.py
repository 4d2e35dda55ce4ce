"""What a canary test found, for people; and the exit code that its result has, wherever it is shown."""

from __future__ import annotations

from rlu_attestation import canary

EXIT_CODES = {"clean": 0, "incomplete": 11, "leak": 10}


def summary(found: canary.Findings) -> list[str]:
    """What was done and searched, for people."""
    lines = [
        f"{found.markers} markers in {sum(found.exchanges.values())} exchanges of {len(found.exchanges)} kinds; "
        f"{found.returned} answers held one",
        "broken meanwhile: "
        + (", ".join(f"{name} {count}" for name, count in found.faults.items()) or "nothing"),
        f"looked for in {found.forms} forms:",
    ]
    for name, place in found.places.items():
        proof = (
            f"{place.found} of {place.planted} planted forms found" if place.planted else "nothing planted"
        )
        state = "searched" if place.searched else "NOT searched, or not all of it"
        leaks = f"; {place.leaks} LEAKS" if place.leaks else ""
        lines.append(f"  {name:<14} {state}: {place.items} items, {place.size} bytes; {proof}{leaks}")
    return lines
