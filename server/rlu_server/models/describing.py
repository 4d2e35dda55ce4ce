"""What a model is, and how two differ, for people: files, tensors by their headers, configuration. Nothing is loaded."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlu_attestation.errors import Malformed
from rlu_server.models import contents, tensors
from rlu_server.models.contents import Offence
from rlu_server.models.manifest import Manifest
from rlu_server.models.tensors import Tensor
from rlu_server.models.walking import Tree

CONFIG = "config.json"
MAX_CONFIG = 16 << 20
_LICENCES = ("licence", "license", "copying", "usage_policy", "use_policy", "notice")


@dataclass(frozen=True, slots=True)
class Description:
    """Of one model."""

    files: int
    bytes: int
    tensors: int
    parameters: Mapping[str, int]
    """Elements by type, the most first. A quantised model packs several weights into one element."""
    architectures: tuple[str, ...]
    licences: tuple[str, ...]
    """Files that look like a licence; what they say is for people to read."""
    refused: tuple[Offence, ...]
    malformed: tuple[str, ...]
    """Safetensors files that are none, each with why."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Between two models: by name, what it was and what it is; None where it is not there."""

    files: Mapping[str, tuple[int | None, int | None]]
    """Sizes of the files whose contents differ."""
    tensors: Mapping[str, tuple[Tensor | None, Tensor | None]]
    """Whose type or shape differ."""
    config: Mapping[str, tuple[Any, Any]]
    """Of `config.json`, by dotted path."""

    def __bool__(self) -> bool:
        return bool(self.files)


def describe(tree: Tree) -> Description:
    """Raises OSError."""
    found: dict[str, Tensor] = {}
    malformed: list[str] = []
    for file in tree.files:
        if file.path.endswith(".safetensors"):
            try:
                found.update({f"{file.path}:{name}": one for name, one in tensors.read(file.real).items()})
            except Malformed as error:
                malformed.append(error.message)
    counted: Counter[str] = Counter()
    for tensor in found.values():
        counted[tensor.dtype] += tensor.elements
    architectures = _config(tree).get("architectures")
    return Description(
        files=len(tree.files),
        bytes=tree.size,
        tensors=len(found),
        parameters=dict(counted.most_common()),
        architectures=tuple(map(str, architectures)) if isinstance(architectures, list) else (),
        licences=tuple(
            file.path for file in tree.files if Path(file.path).name.lower().startswith(_LICENCES)
        ),
        refused=tuple(contents.offences(tree.files)),
        malformed=tuple(malformed),
    )


def compare(first: tuple[Tree, Manifest], second: tuple[Tree, Manifest]) -> Difference:
    """Raises Malformed (`model.safetensors`), OSError."""
    (old_tree, old), (new_tree, new) = first, second
    before = {file.path: file for file in old.files}
    after = {file.path: file for file in new.files}
    files: dict[str, tuple[int | None, int | None]] = {}
    for path in sorted(before.keys() | after.keys()):
        was, now = before.get(path), after.get(path)
        if was is None or now is None or was.sha256 != now.sha256:
            files[path] = (None if was is None else was.size, None if now is None else now.size)
    return Difference(
        files,
        _changed(_tensors(old_tree), _tensors(new_tree)),
        _changed(_flat(_config(old_tree)), _flat(_config(new_tree))),
    )


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {
        name: (before.get(name), after.get(name))
        for name in sorted(before.keys() | after.keys())
        # By their spelling: to Python 0 is False, to a configuration it is not.
        if (name in before, repr(before.get(name))) != (name in after, repr(after.get(name)))
    }


def _tensors(tree: Tree) -> dict[str, Tensor]:
    """By name, whichever file they are in, so that another division into shards is no difference."""
    found: dict[str, Tensor] = {}
    for file in tree.files:
        if file.path.endswith(".safetensors"):
            found.update(tensors.read(file.real))
    return found


def _config(tree: Tree) -> dict[str, Any]:
    file = next((one for one in tree.files if one.path == CONFIG), None)
    if file is None or file.size > MAX_CONFIG:
        return {}
    try:
        document = json.loads(file.real.read_bytes())
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, one in value.items():
        if isinstance(one, dict) and one:
            found.update(_flat(one, f"{prefix}{name}."))
        else:
            found[f"{prefix}{name}"] = one
    return found
