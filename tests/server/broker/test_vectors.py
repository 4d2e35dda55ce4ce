"""The vectors of docs/broker.md, which were made from its text alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from rlu_attestation.encoding import b64u
from rlu_server.broker import protocol
from rlu_server.broker.protocol import Claims
from rlu_server.broker.sealed_files import SealedReader, unseal
from rlu_server.broker.sealing import Header, SealedFile
from rlu_server.broker.vault import ModelKey
from rlu_server.models import measure

VECTORS = json.loads(
    (Path(__file__).parents[3] / "attestation" / "vectors" / "weights.json").read_text("ascii")
)
KEY = ModelKey.parse(VECTORS["key_file"].encode())
HEADER = Header.parse(VECTORS["header"].encode())


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    place = tmp_path / "sealed"
    for file in VECTORS["chunks"]:
        path = place / f"{file['path']}.sealed"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes.fromhex(file["sealed"]))
    (place / "rlu-weights.json").write_text(VECTORS["header"], "utf-8")
    return place


def test_a_sealed_model(sealed: Path, tmp_path: Path) -> None:
    target = tmp_path / "opened"
    target.mkdir()
    assert unseal(sealed, target, KEY.key) == measure(target)
    for file in VECTORS["chunks"]:
        assert (target / file["path"]).read_bytes() == bytes.fromhex(file["plain"])
    assert KEY.kid == HEADER.kid
    assert b64u(HEADER.manifest.sha256) == VECTORS["manifest_sha256"] == b64u(KEY.manifest)


def test_it_is_sealed_to_these_bytes(sealed: Path) -> None:
    for file, vector in zip(HEADER.manifest.files, VECTORS["chunks"], strict=True):
        cipher, plain, out = SealedFile(HEADER, file, KEY.key), bytes.fromhex(vector["plain"]), b""
        for index in range(cipher.count):
            piece = memoryview(plain)[index * HEADER.chunk :][: cipher.plain_length(index)]
            buffer = bytearray(len(piece) + 16)
            cipher.seal(index, piece, memoryview(buffer))
            out += buffer
        assert out.hex() == vector["sealed"]
        with SealedReader(sealed, HEADER, file, KEY.key) as reader:
            assert reader.read(0, file.size) == plain
    assert HEADER.encode().decode("utf-8") == VECTORS["header"]
    assert KEY.encode().decode("ascii") == VECTORS["key_file"]


def test_a_request_and_its_answer() -> None:
    request = VECTORS["request"]
    claims = Claims.parse(request["claims"].encode())
    assert claims.encode().decode("ascii") == request["claims"]
    assert protocol.root_of(claims.encode()).hex() == request["root"]
    private = X25519PrivateKey.from_private_bytes(bytes.fromhex(request["private_key"]))
    assert protocol.open_key(request["answer"].encode(), claims, private) == KEY.key
