"""vLLM's notes on model classes, kept between starts.

Before it loads a model, vLLM asks a subprocess what the model's class can do, which imports everything once more: a quarter of a small
model's start. It notes the answer in its cache, which is in scratch and gone with each start. The notes are a few flags for each class,
keyed by the digest of the class's source, so they are kept in the state directory and put back. They are read before any client can
reach the engine, checked to be nothing but flags and names, and written anew rather than copied.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

PLACE = Path("c") / "vllm" / "modelinfos"
"""Below the engine's scratch; see `environment.VLLM_CACHE_ROOT`."""
MAX_FILES = 16
MAX_BYTES = 16 * 1024
_NAME = re.compile(r"[A-Za-z0-9_-]{1,160}\.json")
_WORD = re.compile(r"[A-Za-z0-9_.-]{0,80}")


def put_back(store: Path, scratch: Path) -> list[Path]:
    """Give the engine the notes of earlier starts. Returns what was made, directories first."""
    notes = _read(store)
    if not notes:
        return []
    made = []
    for directory in (scratch / PLACE.parent, scratch / PLACE):
        directory.mkdir(mode=0o700, exist_ok=True)
        made.append(directory)
    for name, note in notes.items():
        file = scratch / PLACE / name
        file.write_text(json.dumps(note), "utf-8")
        made.append(file)
    return made


def keep(scratch: Path, store: Path) -> None:
    """Take the engine's notes over, before it serves."""
    notes = _read(scratch / PLACE)
    if not notes or notes == _read(store):
        return
    store.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, note in notes.items():
        new = store / f".{name}.new"
        new.write_text(json.dumps(note, sort_keys=True), "utf-8")
        new.replace(store / name)


def _read(directory: Path) -> dict[str, dict[str, Any]]:
    """The notes in a directory; whatever is not of their form is left out."""
    found: dict[str, dict[str, Any]] = {}
    try:
        files = sorted(path for path in directory.iterdir() if _NAME.fullmatch(path.name))[:MAX_FILES]
    except OSError:
        return {}
    for file in files:
        try:
            if file.is_symlink() or file.stat().st_size > MAX_BYTES:
                continue
            note = json.loads(file.read_text("utf-8"))
        except (OSError, ValueError, RecursionError):
            continue
        if _is_note(note):
            found[file.name] = note
    return found


def _is_note(note: object) -> bool:
    if (
        not isinstance(note, dict)
        or note.keys() != {"hash", "modelinfo"}
        or not isinstance(note["modelinfo"], dict)
    ):
        return False
    return _is_word(note["hash"]) and all(_is_word(k) and _is_flag(v) for k, v in note["modelinfo"].items())


def _is_flag(value: object) -> bool:
    if isinstance(value, list):
        return len(value) <= 16 and all(map(_is_word, value))
    return value is None or isinstance(value, bool) or _is_word(value)


def _is_word(value: object) -> bool:
    return isinstance(value, str) and _WORD.fullmatch(value) is not None
