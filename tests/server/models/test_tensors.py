"""Headers of safetensors files: what is read, and what is no such file."""

from __future__ import annotations

import contextlib
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from fakes.safetensors_files import safetensors
from rlu_attestation.errors import Malformed
from rlu_server.models import tensors
from rlu_server.models.tensors import Tensor

FILE = Path("x.safetensors")


def test_reads_names_types_and_shapes(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    made = {"w": ("BF16", [2, 3], bytes(12)), "scalar": ("I64", [], bytes(8)), "none": ("F4", [0], b"")}
    file.write_bytes(safetensors(made, format="pt"))
    assert tensors.read(file) == {
        "w": Tensor("BF16", (2, 3)),
        "scalar": Tensor("I64", ()),
        "none": Tensor("F4", (0,)),
    }
    assert [one.elements for one in tensors.read(file).values()] == [6, 1, 0]


def test_reads_what_the_library_writes(tmp_path: Path) -> None:
    save_file({"a": np.zeros((3, 4), np.float32), "b": np.zeros(5, np.int8)}, tmp_path / "f")
    assert tensors.read(tmp_path / "f") == {"a": Tensor("F32", (3, 4)), "b": Tensor("I8", (5,))}


def entry(**changes: Any) -> dict[str, Any]:
    return {"dtype": "U8", "shape": [4], "data_offsets": [0, 4], **changes}


WRONG: dict[str, object] = {
    "no JSON": b"{",
    "not UTF-8": b"\xff",
    "no object": [],
    "a tensor twice": b'{"a": %b, "a": %b}' % (2 * (json.dumps(entry()).encode(),)),
    "no tensor": {"a": 1},
    "unknown type": {"a": entry(dtype="F9")},
    "negative shape": {"a": entry(shape=[-4])},
    "a shape of true": {"a": entry(shape=[4, True])},
    "offsets that are none": {"a": entry(data_offsets=[0])},
    "too few bytes": {"a": entry(shape=[5])},
    "too many bytes": {"a": entry(shape=[3])},
    "a gap": {"a": entry(data_offsets=[1, 5])},
    "overlap": {"a": entry(), "b": entry(data_offsets=[2, 6])},
    "data left over": {"a": entry(shape=[3], data_offsets=[0, 3])},
    "data missing": {"a": entry(), "b": entry(data_offsets=[4, 8])},
    "nested deep": b'{"a":' * 100_000,
}


@pytest.mark.parametrize("name", WRONG)
def test_another_form_refuses(name: str) -> None:
    header = WRONG[name]
    data = header if isinstance(header, bytes) else json.dumps(header).encode()
    with pytest.raises(Malformed) as caught:
        tensors.parse(FILE, data, 4)
    assert caught.value.code == "model.safetensors"


@pytest.mark.parametrize("content", [b"", b"1234567", struct.pack("<Q", 9) + b"{}", b"\xff" * 20])
def test_lengths_that_are_none_refuse(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(Malformed) as caught:
        tensors.read(tmp_path / "f")
    assert caught.value.code == "model.safetensors"


@given(st.binary(max_size=80), st.integers(0, 80))
def test_arbitrary_headers(header: bytes, size: int) -> None:
    with contextlib.suppress(Malformed):
        tensors.parse(FILE, header, size)
