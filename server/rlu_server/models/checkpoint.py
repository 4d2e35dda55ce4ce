"""What a model's directory says of itself: its `config.json`, and how many bytes its weights have.

Bytes are those of the tensors: `metadata.total_size` of `model.safetensors.index.json` where it has that, else the data
part of every safetensors file. Tensors themselves are not read.
"""

from __future__ import annotations

import json
from pathlib import Path

from rlu_attestation.errors import Malformed
from rlu_server.sizing.fields import MAX_CONFIG

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
MAX_INDEX = 64 * 2**20
MAX_FILES = 4096
_LENGTH = 8


def read(place: Path) -> tuple[bytes, int | None]:
    """`config.json`, and the bytes of the weights where their files are beside it; `place` is the directory or the file.

    Raises:
        Malformed: a file is not what its name says (`size.checkpoint.malformed`).
        OSError: it cannot be read.
    """
    directory = place if place.is_dir() else place.parent
    config = _bounded(directory / CONFIG if place.is_dir() else place, MAX_CONFIG)
    return config, weight_bytes(directory)


def weight_bytes(directory: Path) -> int | None:
    """Bytes of all tensors; None when no weights are there, or not all of them."""
    index = directory / INDEX
    if index.is_file():
        return _indexed(directory, index)
    files = weight_files(directory)
    return sum(_data_size(file) for file in files) if files else None


def weight_files(directory: Path) -> list[Path]:
    """The safetensors files of a directory; a second copy in Mistral's own form (`consolidated`) only where there is no other."""
    found = sorted(directory.glob("*.safetensors"))[:MAX_FILES]
    return [file for file in found if not file.name.startswith("consolidated")] or found


def _indexed(directory: Path, index: Path) -> int | None:
    try:
        value = json.loads(_bounded(index, MAX_INDEX))
        names = set(value["weight_map"].values())
        total = value.get("metadata", {}).get("total_size")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Malformed("size.checkpoint.malformed", f"{INDEX} is no index of safetensors files") from error
    if isinstance(total, int) and not isinstance(total, bool) and total > 0:
        return total
    files = [directory / name for name in names if isinstance(name, str) and Path(name).name == name]
    return sum(_data_size(file) for file in files) if files and all(f.is_file() for f in files) else None


def _data_size(file: Path) -> int:
    size = file.stat().st_size
    with file.open("rb") as opened:
        header = int.from_bytes(opened.read(_LENGTH), "little")
    if header + _LENGTH > size:
        raise Malformed("size.checkpoint.malformed", f"{file.name} is no complete safetensors file")
    return size - _LENGTH - header


def _bounded(file: Path, limit: int) -> bytes:
    with file.open("rb") as opened:
        data = opened.read(limit + 1)
    if len(data) > limit:
        raise Malformed("size.checkpoint.malformed", f"{file.name} is longer than {limit} bytes")
    return data
