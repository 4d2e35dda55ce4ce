"""What the launcher says of a model's signature, on its way into the statement."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rlu_attestation.encoding import b64u
from rlu_attestation.models import ModelSignature
from rlu_server.attestor import facts
from rlu_server.attestor.errors import NotReady
from rlu_server.attestor.messages import Hello

DIGEST = b64u(bytes(32))
KEY = facts.Key({"crv": "P-256", "kty": "EC", "x": DIGEST, "y": DIGEST}, "none", 1, 1, None)
HELLO = Hello(id=1, gateway_version="0", posture={}, tls_origin="plaintext", tls_spki_sha256=None)


def written(directory: Path, signature: Any, further: Any = None) -> facts.Facts:
    engine = {"name": "vllm", "version": "1", "arguments_sha256": DIGEST}

    def model(name: str, stated: Any) -> dict[str, Any]:
        return {"name": name, "manifest_sha256": DIGEST} | ({} if stated is None else {"signature": stated})

    document = {
        "model": model("m", signature),
        "engine": engine,
        "further_models": [] if further is None else [{"model": model("n", further), "engine": engine}],
        "hardware": {"profile": "p"},
        **dict.fromkeys(("region", "boundary", "site"), "x"),
    }
    (directory / "instance.json").write_text(json.dumps(document))
    return facts.read(directory)


@pytest.mark.parametrize(
    ("signature", "stated"),
    [
        (None, None),
        ({"result": "unsigned"}, ModelSignature("unsigned")),
        ({"result": "failed"}, ModelSignature("failed")),
        ({"result": "verified", "signer": DIGEST}, ModelSignature("verified", bytes(32))),
    ],
)
def test_is_stated_as_written(signature: Any, stated: ModelSignature | None, tmp_path: Path) -> None:
    found = written(tmp_path, signature, {"result": "failed"})
    claims = facts.claims(KEY, found, HELLO, None, 1, 60, False)
    assert [one.signature for one in claims.models] == [stated, ModelSignature("failed")]


@pytest.mark.parametrize(
    "signature",
    [
        {"result": "verified"},
        {"result": "unsigned", "signer": DIGEST},
        {"result": "good"},
        {"result": "verified", "signer": "short"},
        {"result": "unsigned", "by": "x"},
        {},
    ],
)
def test_another_form_is_not_stated(signature: Any, tmp_path: Path) -> None:
    with pytest.raises(NotReady) as caught:
        written(tmp_path, signature)
    assert caught.value.code == "facts.malformed"
