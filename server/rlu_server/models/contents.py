"""What a model may not bring along, because loading it would run it: pickles, by name and by content, and code.

By name: endings under which weights are pickles, and those of Python and of native code. By content: a file that begins as a pickle does
(protocol 2 and later), a zip archive with such a member (what `torch.save` writes), or a NumPy array of objects. Pickles of the protocols 0
and 1 are text without a mark, so they are found by name only. `auto_map` in a configuration names classes to import from the directory.

This is one of two nets. The other is the engine's arguments: what would load code (`--trust-remote-code`) is refused there, and vLLM reads
safetensors alone. A chat template is a program too, run by Jinja's sandbox; it is signed like the rest.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from rlu_server.models.errors import ManifestError
from rlu_server.models.walking import Found

PICKLES = frozenset({".bin", ".ckpt", ".dill", ".joblib", ".pickle", ".pkl", ".pt", ".pth"})
"""Endings under which weights are pickles; `torch.load` would run them."""
CODE = frozenset({".dll", ".dylib", ".ipynb", ".py", ".pyc", ".pyd", ".pyo", ".pyx", ".so", ".whl"})
MAX_JSON = 16 << 20
MAX_MEMBERS = 10_000
_HEAD = 512
_PROTOCOLS = range(2, 6)
_LENGTH = 8


@dataclass(frozen=True, slots=True)
class Offence:
    """A file that refuses the whole model."""

    path: str
    code: str
    reason: str
    """What it is, and what to do."""


def offences(files: Iterable[Found]) -> list[Offence]:
    """All of them, in the order of the files.

    Raises:
        OSError: a file cannot be read.
    """
    return [offence for file in files if (offence := _offence(file)) is not None]


def refuse(files: Iterable[Found]) -> None:
    """Raises ManifestError (`model.pickle`, `model.code`) for the first offence, and says how many there are."""
    found = offences(files)
    if not found:
        return
    first, more = found[0], len(found) - 1
    rest = f" ({more} more: see `rlu model inspect`)" if more else ""
    raise ManifestError(first.code, f"{first.path} {first.reason}{rest}")


def _offence(file: Found) -> Offence | None:
    endings = {file.real.suffix.lower(), Path(file.path).suffix.lower()}
    if endings & PICKLES:
        return _pickle(file, "is a pickle by its name")
    if endings & CODE:
        return Offence(
            file.path,
            "model.code",
            "is code, and nothing here runs code that comes with a model; remove it",
        )
    with file.real.open("rb") as opened:
        head = opened.read(_HEAD)
        if _is_pickle(head) and not _is_safetensors(head, file.size):
            return _pickle(file, "begins as a pickle does")
        if head.startswith(b"PK\x03\x04") and (member := _pickled_member(opened)):
            return _pickle(file, f"is an archive with a pickle in it ({member!r})")
        if _is_object_array(head):
            return _pickle(file, "is a NumPy array of objects, which are pickled")
        if file.path.endswith(".json") and _has_auto_map(head, opened, file.size):
            return Offence(
                file.path,
                "model.code",
                "has auto_map, which names code to import; remove that entry if vLLM knows the model without it",
            )
    return None


def _pickle(file: Found, what: str) -> Offence:
    return Offence(
        file.path, "model.pickle", f"{what}, code that runs when it is loaded; remove or convert it"
    )


def _is_pickle(head: bytes) -> bool:
    return len(head) > 1 and head[0] == 0x80 and head[1] in _PROTOCOLS


def _is_safetensors(head: bytes, size: int) -> bool:
    """The length of a safetensors header may look like a pickle's first bytes; JSON follows."""
    length = int.from_bytes(head[:_LENGTH], "little")
    return head[_LENGTH : _LENGTH + 1] == b"{" and _LENGTH + length <= size


def _pickled_member(opened: BinaryIO) -> str:
    """The name of a member that is a pickle, or why that cannot be told; empty: none is."""
    try:
        with zipfile.ZipFile(opened) as archive:
            members = archive.infolist()
            if len(members) > MAX_MEMBERS:
                return "too many members to look at"
            for member in members:
                if Path(member.filename).suffix.lower() in PICKLES:
                    return member.filename
                if member.is_dir():
                    continue
                with archive.open(member) as content:
                    head = content.read(_HEAD)
                if _is_pickle(head) or _is_object_array(head):
                    return member.filename
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError, zipfile.zlib.error):  # type: ignore[attr-defined]
        return "not readable"
    return ""


def _is_object_array(head: bytes) -> bool:
    return head.startswith(b"\x93NUMPY") and b"O'" in head.partition(b"descr")[2].partition(b",")[0]


def _has_auto_map(head: bytes, opened: BinaryIO, size: int) -> bool:
    """Keys of the top level only: that is where transformers looks. What is no JSON names nothing."""
    if size > MAX_JSON or head[:1] not in b"{ \t\r\n\xef":
        return False
    opened.seek(0)
    data = opened.read(MAX_JSON)
    if b"auto_map" not in data:
        return False
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and "auto_map" in document
