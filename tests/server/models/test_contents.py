"""What refuses a model by its content, and what only looks like it."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fakes.safetensors_files import safetensors
from rlu_server.models import ManifestError, contents, measure
from rlu_server.models.walking import walk


def zipped(**members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/").replace("_dot_", "."), content)
    return out.getvalue()


def array(value: object) -> bytes:
    out = io.BytesIO()
    np.save(out, np.array(value), allow_pickle=True)
    return out.getvalue()


PICKLE = pickle.dumps({"weights": [1.0]}, protocol=4)
REFUSED: dict[str, tuple[str, bytes, str]] = {
    "by name": ("pytorch_model.bin", b"", "model.pickle"),
    "by name in capitals": ("sub/W.PKL", b"", "model.pickle"),
    "protocol 2": ("weights", pickle.dumps({}, protocol=2), "model.pickle"),
    "protocol 5": ("weights.safetensors", pickle.dumps({}, protocol=5), "model.pickle"),
    "what torch.save writes": ("weights.dat", zipped(archive__data_dot_pkl=PICKLE), "model.pickle"),
    "a pickle in a zip by content": ("weights.zip", zipped(a__b=b"x", c=PICKLE), "model.pickle"),
    "a zip that is cut": ("weights.zip", zipped(a=b"x")[:-9], "model.pickle"),
    "objects in an array": ("x.npy", array([None, "x"]), "model.pickle"),
    "objects in a zipped array": ("x.npz", zipped(a_dot_npy=array([None])), "model.pickle"),
    "Python": ("modeling_x.py", b"", "model.code"),
    "compiled Python": ("x.pyc", b"", "model.code"),
    "a library": ("sub/kernel.so", b"\x7fELF", "model.code"),
    "auto_map": ("config.json", b'{"auto_map": {"AutoModel": "modeling_x.X"}}', "model.code"),
    "auto_map, spelled otherwise": (
        "tokenizer_config.json",
        b' \n{"a\\u0075to_map": {}, "x": "auto_map"}',
        "model.code",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str, model: Path) -> None:
    path, content, code = REFUSED[name]
    (model / path).write_bytes(content)
    with pytest.raises(ManifestError) as caught:
        measure(model)
    assert (caught.value.code, caught.value.exit_code) == (code, 10)
    assert path.rpartition("/")[2] in caught.value.message
    assert [one.path for one in contents.offences(walk(model).files)] == [path]


def test_says_how_many_more(model: Path) -> None:
    for name in ("a.py", "b.py", "c.pkl"):
        (model / name).touch()
    with pytest.raises(ManifestError, match=r"a\.py is code.*2 more"):
        measure(model)


def header_of_length(length: int) -> bytes:
    """Whose first bytes are those of a pickle of protocol 4."""
    made = safetensors({"a": ("U8", [1], b"x")})
    header = made[8:-1]
    return length.to_bytes(8, "little") + header + b" " * (length - len(header)) + b"x"


ACCEPTED: dict[str, tuple[str, bytes]] = {
    "a header as long as a pickle's mark": ("x.safetensors", header_of_length(0x0480)),
    "a zip of text": ("x.zip", zipped(a=b"text", b__c=b"\x80")),
    "an array of numbers": ("x.npy", array([1.0, 2.0])),
    "zipped arrays of numbers": ("x.npz", zipped(a_dot_npy=array([1]))),
    "auto_map deeper": ("config.json", b'{"text": {"auto_map": {}}, "note": "auto_map"}'),
    "auto_map in no JSON": ("notes.json", b"{auto_map"),
    "auto_map in an array": ("list.json", json.dumps(["auto_map"]).encode()),
    "Python in its name": ("python.txt", b"import os"),
    "one byte": ("x", b"\x80"),
    "empty": ("y.json", b""),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepts(name: str, model: Path) -> None:
    path, content = ACCEPTED[name]
    (model / path).write_bytes(content)
    assert measure(model)
