from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlu_attestation.errors import Malformed
from rlu_server.models import checkpoint


def tensors(file: Path, size: int) -> None:
    header = b'{"a":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]}}' % (size, size)
    file.write_bytes(len(header).to_bytes(8, "little") + header + bytes(size))


def test_a_directory_and_its_config(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert checkpoint.read(tmp_path) == checkpoint.read(tmp_path / "config.json") == (b"{}", None)
    tensors(tmp_path / "model-1.safetensors", 1000)
    tensors(tmp_path / "model-2.safetensors", 24)
    assert checkpoint.read(tmp_path) == (b"{}", 1024)
    tensors(tmp_path / "consolidated.safetensors", 1024)
    assert checkpoint.weight_bytes(tmp_path) == 1024
    (tmp_path / "model-1.safetensors").unlink()
    (tmp_path / "model-2.safetensors").unlink()
    assert checkpoint.weight_bytes(tmp_path) == 1024


def index(directory: Path, value: object) -> None:
    (directory / checkpoint.INDEX).write_text(json.dumps(value))


def test_an_index_says_how_much_there_is(tmp_path: Path) -> None:
    index(tmp_path, {"metadata": {"total_size": 5}, "weight_map": {"a": "m.safetensors"}})
    assert checkpoint.weight_bytes(tmp_path) == 5
    index(tmp_path, {"weight_map": {"a": "m.safetensors"}})
    assert checkpoint.weight_bytes(tmp_path) is None
    tensors(tmp_path / "m.safetensors", 7)
    assert checkpoint.weight_bytes(tmp_path) == 7
    index(tmp_path, {"weight_map": {"a": "../m.safetensors"}})
    assert checkpoint.weight_bytes(tmp_path) is None


@pytest.mark.parametrize(
    "value", [[], {}, {"weight_map": []}, {"weight_map": {"a": []}}, {"weight_map": {}, "metadata": []}]
)
def test_an_index_that_is_none(tmp_path: Path, value: object) -> None:
    index(tmp_path, value)
    with pytest.raises(Malformed) as caught:
        checkpoint.weight_bytes(tmp_path)
    assert caught.value.code == "size.checkpoint.malformed"


@pytest.mark.parametrize("data", [b"", b"\xff" * 8, b"\xff" * 100])
def test_a_file_that_is_cut_short(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "m.safetensors").write_bytes(data)
    with pytest.raises(Malformed):
        checkpoint.weight_bytes(tmp_path)


def test_a_config_without_end(tmp_path: Path) -> None:
    with (tmp_path / "config.json").open("wb") as file:
        file.truncate(checkpoint.MAX_CONFIG + 1)
    with pytest.raises(Malformed, match="longer than"):
        checkpoint.read(tmp_path)
