"""What a job fetched, into the ConfigMap that the instances mount. Only what changed is written; what is over goes.

Pieces of collateral (`rlu collateral fetch`) keep their names, so that each directory of the attestor's can be this ConfigMap: it takes
what it knows by its ending. Intel's is there as `collateral.json` too, the name that the attestor looks for. Earlier pieces that still
answer stay, for the instance that was not up or the vendor that did not answer today; where they no longer fit, they go.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from rlu_attestation.collateral import listing
from rlu_attestation.collateral.store import SUFFIXES, name_of
from rlu_attestation.errors import Malformed, Refused
from rlu_server.cluster.api import Api
from rlu_server.cluster.rights import PATCH_MAP, READ_MAP

MAX_BYTES = 1_000_000
"""etcd takes 1 MiB with everything around it."""
BINARY, TEXT = "binaryData", "data"
"""The parts of a ConfigMap. A file is in one of them: what `kubectl create --from-file` makes of JSON is in the second."""
TDX, TDX_FILE = "tdx-collateral", "collateral.json"
Piece = tuple[str, bytes]


def collateral(pieces: Iterable[Piece], before: Mapping[str, bytes], at: datetime) -> dict[str, bytes]:
    """The files to publish: the new pieces, and those of before that still answer, as far as they fit."""
    new = _files(pieces)
    kept = _files((kind, data) for name, data in before.items() if (kind := _kind(name, data)))
    answering = {one.name for one in listing.describe(_pieces(kept), at) if one.state == listing.ANSWERS}
    files = new | {name: data for name, data in kept.items() if name in answering}
    intel = [data for kind, data in _pieces(new)[::-1] if kind == TDX]
    if intel:
        files[TDX_FILE] = intel[0]
    elif TDX_FILE in before and any(data == before[TDX_FILE] for data in files.values()):
        files[TDX_FILE] = before[TDX_FILE]
    if size(files) <= MAX_BYTES:
        return files
    return new | ({TDX_FILE: intel[0]} if intel else {})


def size(files: Mapping[str, bytes]) -> int:
    """Bytes that a ConfigMap with these files has, near enough."""
    return sum(len(name) + 8 + 4 * (len(data) + 2) // 3 for name, data in files.items())


def publish(
    api: Api, name: str, files: Mapping[str, bytes], before: Mapping[str, bytes], part: str = BINARY
) -> bool:
    """Make a part of the ConfigMap hold these files in the place of those before; whether that changed anything.

    Raises:
        Refused: `publish.size`.
        Malformed: `publish.content`: no text, for the part that holds texts.
        RluError: of the API server.
    """
    if size(files) > MAX_BYTES:
        raise Refused(
            "publish.size",
            f"{size(files)} bytes are more than a ConfigMap takes; give the instances a Secret or volume of your own",
        )
    if dict(before) == dict(files):
        return False
    changed: dict[str, str | None] = dict.fromkeys(set(before) - set(files))
    try:
        changed |= {
            key: data.decode() if part == TEXT else base64.b64encode(data).decode("ascii")
            for key, data in files.items()
            if before.get(key) != data
        }
    except UnicodeDecodeError as error:
        raise Malformed("publish.content", f"what is for {name} is no text") from error
    api.call(PATCH_MAP, name, {part: changed})
    return True


def published(api: Api, name: str, part: str = BINARY) -> dict[str, bytes]:
    """What a part of the ConfigMap holds.

    Raises:
        Malformed: `publish.content`.
        RluError: of the API server.
    """
    found: dict[str, Any] = api.call(READ_MAP, name).get(part) or {}
    try:
        if part == TEXT:
            return {key: text.encode() for key, text in found.items()}
        return {key: base64.b64decode(text, validate=True) for key, text in found.items()}
    except (binascii.Error, TypeError) as error:
        raise Malformed("publish.content", f"{name} holds what is no base64") from error


def _files(pieces: Iterable[Piece]) -> dict[str, bytes]:
    return {name_of(kind, data): data for kind, data in pieces}


def _pieces(files: Mapping[str, bytes]) -> list[Piece]:
    return [(_kind(name, data), data) for name, data in files.items()]


def _kind(name: str, data: bytes) -> str:
    """The kind of a piece by its name, if the name is its own; empty for anything else."""
    kinds = (kind for kind in SUFFIXES if name.startswith(f"{kind}-") and name == name_of(kind, data))
    return next(kinds, "")
