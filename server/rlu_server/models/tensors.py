"""Headers of safetensors files: names, types and shapes of tensors. The tensors themselves are not read.

Form: 8 bytes little-endian length, a JSON object of that length, the data. Checked as the reference implementation does: the length at most
100 MB, offsets within the file, as many bytes as type and shape say, no gap and no overlap.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rlu_attestation.errors import Malformed
from rlu_attestation.strict_json import unique

MAX_HEADER = 100_000_000
_LENGTH = 8
BITS: Mapping[str, int] = {
    **dict.fromkeys(("F4", "F4_E2M1"), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
}


@dataclass(frozen=True, slots=True)
class Tensor:
    dtype: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"


def read(file: Path) -> dict[str, Tensor]:
    """The tensors of one file.

    Raises:
        Malformed: `model.safetensors`.
        OSError: it cannot be read.
    """
    size = file.stat().st_size
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(_LENGTH), "little")
        if size < _LENGTH or length > min(MAX_HEADER, size - _LENGTH):
            raise _wrong(file, "its header is longer than the file, or than is allowed")
        data = opened.read(length)
    return parse(file, data, size - _LENGTH - length)


def parse(file: Path, header: bytes, data_size: int) -> dict[str, Tensor]:
    """The tensors that a header names; `file` is for errors. Raises Malformed (`model.safetensors`)."""
    try:
        document = json.loads(header.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise _wrong(file, "its header is not JSON") from error
    if not isinstance(document, dict):
        raise _wrong(file, "its header is no object")
    document.pop("__metadata__", None)
    tensors: dict[str, Tensor] = {}
    spans: list[tuple[int, int]] = []
    for name, entry in document.items():
        match entry:
            case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(start), int(end)]} if (
                dtype in BITS and all(type(one) is int and one >= 0 for one in shape)
            ):
                tensors[name] = Tensor(dtype, tuple(shape))
                spans.append((start, end))
                if (end - start) * 8 != tensors[name].elements * BITS[dtype]:
                    raise _wrong(file, f"{name[:128]} has not the bytes that its type and shape need")
            case _:
                raise _wrong(file, f"{name[:128]} is no tensor of a known type")
    reached = 0
    for start, end in sorted(spans):
        if start != reached:
            raise _wrong(file, "its tensors overlap or leave a gap")
        reached = end
    if reached != data_size:
        raise _wrong(file, "it is not as long as its tensors")
    return tensors


def _wrong(file: Path, what: str) -> Malformed:
    return Malformed("model.safetensors", f"{file.name} is no safetensors file: {what}")
