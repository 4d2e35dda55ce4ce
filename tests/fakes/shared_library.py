"""Shared libraries for tests, compiled from C as drivers' are."""

from __future__ import annotations

import functools
import subprocess
import tempfile
from pathlib import Path


@functools.cache
def compiled(source: Path, name: str) -> str:
    """Path of the library, made once a process."""
    target = Path(tempfile.mkdtemp(prefix="rlu-library-")) / name
    command = ["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o", target, source]
    subprocess.run(command, check=True, capture_output=True)
    return str(target)
