"""`--model PATH_OR_HUB_ID`: where the model's files are, fetching them once if they are a hub's."""

from __future__ import annotations

import importlib
import re
import shutil
from pathlib import Path

from rlu_server.supervisor.errors import Misconfigured, Unavailable

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
UNWANTED = (
    "*.bin",
    "*.pt",
    "*.pth",
    "*.ckpt",
    "*.pkl",
    "*.msgpack",
    "*.h5",
    "*.gguf",
    "*.onnx",
    "*.py",
    "original/*",
    ".gitattributes",
)
"""Not fetched: code, weights in forms that run code when they are loaded, and duplicates in other forms."""


def directory(model: str, state: Path) -> Path:
    """The model's directory.

    Raises:
        Misconfigured: neither a directory nor a hub id.
        Unavailable: it had to be fetched and could not be.
    """
    if not model:
        raise Misconfigured("no model: pass --model PATH_OR_HUB_ID, or set [model] path")
    path = Path(model).expanduser()
    if path.is_dir():
        return path.resolve()
    if not HUB_ID.fullmatch(model):
        raise Misconfigured(f"{model} is neither a directory nor a hub id (owner/name)")
    place = state / "models" / model.replace("/", "--")
    return place if place.is_dir() else _fetch(model, place)


def _fetch(model: str, place: Path) -> Path:
    try:
        hub = importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise Unavailable(
            f"{model} is not here and huggingface_hub is not installed; download it, and pass its directory"
        ) from error
    partial = place.with_name(f".{place.name}.partial")
    partial.parent.mkdir(parents=True, exist_ok=True)
    try:
        hub.snapshot_download(repo_id=model, local_dir=str(partial), ignore_patterns=list(UNWANTED))
    except (
        Exception
    ) as error:  # whatever the library or the network raises, it means the same to the operator
        raise Unavailable(
            f"{model} could not be fetched ({type(error).__name__}); on a machine without a route to the hub, copy its directory here and "
            f"pass that, or put it at {place}"
        ) from error
    shutil.rmtree(partial / ".cache", ignore_errors=True)
    partial.rename(place)
    return place
