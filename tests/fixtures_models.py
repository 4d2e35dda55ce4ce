"""The demo model, trained once and kept in `.cache/` until something that it is made from changes."""

from __future__ import annotations

import fcntl
import hashlib
from importlib import metadata
from importlib.resources import files
from pathlib import Path

import pytest

from rlu_server.models.demo import make_demo_model

CACHE = Path(__file__).resolve().parents[1] / ".cache"


def _fingerprint() -> str:
    """Of the recipe: the package's files and the versions of the libraries that train."""
    digest = hashlib.sha256()
    for file in sorted(files("rlu_server.models.demo").iterdir(), key=lambda entry: entry.name):
        if file.name.endswith((".py", ".toml", ".jinja")):
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
    for name in ("torch", "transformers", "tokenizers"):
        digest.update(metadata.version(name).encode())
    return digest.hexdigest()[:16]


@pytest.fixture(scope="session")
def demo_model() -> Path:
    """Directory of the demo model. Not to be changed."""
    directory = CACHE / f"demo-model-{_fingerprint()}"
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "demo-model.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # parallel runs train once
        make_demo_model(directory)
    return directory
