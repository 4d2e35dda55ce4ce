"""Findings of canary tests: complete and clean, to be changed."""

from __future__ import annotations

import time
from dataclasses import replace
from importlib import metadata

from rlu_attestation.canary import EXCHANGES, FAULTS, PLACES, Findings, Place
from rlu_attestation.models import Software

CLEAN = Place(searched=True, items=3, size=4096, planted=28, found=28, leaks=0)


def findings(**changes: object) -> Findings:
    """What a test finds where nothing is to be found."""
    now = int(time.time())
    made = Findings(
        began=now - 60,
        ended=now - 1,
        seed=7,
        markers=1193,
        returned=30,
        forms=154,
        tokens=True,
        exchanges=dict.fromkeys(EXCHANGES, 1),
        faults=dict.fromkeys(FAULTS, 1),
        places=dict.fromkeys(PLACES, CLEAN),
        model_manifest=bytes(32),
        engine=Software("vllm", "0.32.0", bytes(32)),
        gateway=Software("rlu", metadata.version("rlu")),
    )
    return replace(made, **changes)  # type: ignore[arg-type]
