from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlu_server.selftest import forms
from rlu_server.selftest.index import Index
from rlu_server.selftest.markers import STYLES, Marker, marker


@pytest.fixture
def secret() -> bytes:
    return os.urandom(32)


@pytest.fixture
def made(secret: bytes) -> list[Marker]:
    """A marker of each style, new for every test."""
    return [marker(secret, "test", 0, style) for style in STYLES]


@pytest.fixture
def index(made: list[Marker]) -> Index:
    """Finds every form of them."""
    needles = [needle for one in made for needle in forms.of_text(one.text, one.scenario)]
    return Index(
        needles + [needle for one in made for needle in forms.of_digests(one.text.encode(), one.scenario)]
    )


@pytest.fixture
def short_directory() -> Iterator[Path]:
    """A directory whose paths sockets can have, and that is unmounted whatever happens."""
    with tempfile.TemporaryDirectory(prefix="rlu-selftest-") as directory:
        yield Path(directory)
        if os.path.ismount(Path(directory) / "disk"):
            subprocess.run(["umount", "-l", str(Path(directory) / "disk")], check=False)
