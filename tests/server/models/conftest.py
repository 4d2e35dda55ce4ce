"""A small model that every test may change."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest


def safetensors(tensors: dict[str, tuple[str, list[int], bytes]], **metadata: str) -> bytes:
    """A safetensors file: name to type, shape and data."""
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    data = b""
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.fixture
def model(tmp_path: Path) -> Path:
    directory = tmp_path / "model"
    (directory / "sub").mkdir(parents=True)
    (directory / "config.json").write_text('{"architectures": ["Qwen3ForCausalLM"], "rope": {"theta": 1}}')
    tensors = {"a.weight": ("BF16", [2, 3], bytes(12)), "b.weight": ("F32", [], bytes(4))}
    (directory / "model.safetensors").write_bytes(safetensors(tensors, format="pt"))
    (directory / "sub" / ".hidden").write_text("x")
    (directory / "two\nlines é.txt").write_text("y")
    (directory / "LICENSE").write_text("do as you please")
    return directory
