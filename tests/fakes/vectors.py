"""Where the real evidence lies that tests verify: `RLU_VECTORS`, by default beside the checkout."""

from __future__ import annotations

import os
from pathlib import Path

from absent_inputs import absent

_DEFAULT = Path(__file__).resolve().parents[2].parent / "shared" / "vectors"


def vector(kind: str, name: str) -> Path:
    """Directory of one vector; fails the test when it is not there, unless `RLU_ALLOW_MISSING` names `vectors`."""
    root = Path(os.environ.get("RLU_VECTORS") or _DEFAULT)
    path = root / kind / name
    if not path.is_dir():
        absent("vectors", f"{path} is missing")
    return path
