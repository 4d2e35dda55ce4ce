"""Where the real evidence lies that tests verify: `RLU_VECTORS`, by default beside the checkout."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_DEFAULT = Path(__file__).resolve().parents[2].parent / "shared" / "vectors"


def vector(kind: str, name: str) -> Path:
    """Directory of one vector; fails the test when it is not there, unless `RLU_ALLOW_MISSING` names `vectors`."""
    root = Path(os.environ.get("RLU_VECTORS") or _DEFAULT)
    path = root / kind / name
    if not path.is_dir():
        if "vectors" in os.environ.get("RLU_ALLOW_MISSING", "").replace(",", " ").split():
            pytest.skip("NOT RUN: evidence vectors are absent")
        pytest.fail(f"{path} is missing; set RLU_VECTORS, or name `vectors` in RLU_ALLOW_MISSING")
    return path
