"""What is served with and without a signature, and that files which change are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from rlu_attestation.errors import RluError
from rlu_server.models import ManifestError, signing, verifying
from rlu_server.models.signing import Signers
from rlu_server.models.verifying import Unchanged

KEY = ec.generate_private_key(ec.SECP256R1())
TRUSTED = Signers((KEY.public_key(),))


def sign(model: Path) -> None:
    (model / "model.sig").write_bytes(
        signing.sign(verifying.measure(model, "unsafe-optional", Signers()).manifest, "m", KEY)
    )


@pytest.fixture
def signed(model: Path) -> Path:
    sign(model)
    return model


def test_signed(signed: Path) -> None:
    measured = verifying.measure(signed, "required", TRUSTED)
    assert (measured.result, measured.signer) == ("verified", signing.key_id(KEY.public_key()))
    assert verifying.measure(signed, "unsafe-optional", TRUSTED) == measured


Change = Callable[[Path], object]
BAD: dict[str, tuple[Change, Signers, str]] = {
    "no signature": (lambda m: (m / "model.sig").unlink(), TRUSTED, "model.signature.absent"),
    "nobody is trusted": (lambda m: None, Signers(), "model.signature.unknown_signer"),
    "cut": (lambda m: (m / "model.sig").write_bytes(b"{"), TRUSTED, "model.signature.encoding"),
    "a byte of the weights": (
        lambda m: (m / "model.safetensors").write_bytes((m / "model.safetensors").read_bytes() + b"x"),
        TRUSTED,
        "model.signature.mismatch",
    ),
    "a file more": (lambda m: (m / "generation_config.json").touch(), TRUSTED, "model.signature.mismatch"),
    "a file less": (lambda m: (m / "LICENSE").unlink(), TRUSTED, "model.signature.mismatch"),
    "a file renamed": (lambda m: (m / "LICENSE").rename(m / "NOTICE"), TRUSTED, "model.signature.mismatch"),
}


@pytest.mark.parametrize("name", BAD)
def test_not_signed_as_it_must_be(name: str, signed: Path) -> None:
    change, trusted, code = BAD[name]
    change(signed)
    with pytest.raises(RluError) as caught:
        verifying.measure(signed, "required", trusted)
    assert caught.value.code == code
    measured = verifying.measure(signed, "unsafe-optional", trusted)
    absent = code == "model.signature.absent"
    assert (measured.result, measured.signer) == ("unsigned" if absent else "failed", None)
    assert measured.failure == ("" if absent else code)


def test_a_signature_excuses_no_pickle(model: Path) -> None:
    sign(model)
    (model / "x.pkl").touch()
    for need in ("required", "unsafe-optional"):
        with pytest.raises(ManifestError) as caught:
            verifying.measure(model, need, TRUSTED)  # type: ignore[arg-type]
        assert caught.value.code == "model.pickle"


def test_signers_are_read_from_files(tmp_path: Path) -> None:
    file = tmp_path / "vendor.pub"
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    file.write_bytes(KEY.public_key().public_bytes(serialization.Encoding.PEM, form))
    assert verifying.read_signers([file]).keys == (KEY.public_key(),)
    with pytest.raises(RluError) as caught:
        verifying.read_signers([file, tmp_path / "missing"])
    assert (caught.value.code, caught.value.exit_code) == ("model.signers", 2)


def test_unchanged_files_may_be_started_with_again(signed: Path) -> None:
    unchanged = Unchanged(verifying.measure(signed, "required", TRUSTED))
    for _ in range(2):
        unchanged.before_start()
        unchanged.after_loading()
    # Touched between two starts: they are hashed anew and are the same.
    (signed / "LICENSE").touch()
    unchanged.before_start()
    unchanged.after_loading()


def test_changed_before_a_start(signed: Path) -> None:
    unchanged = Unchanged(verifying.measure(signed, "required", TRUSTED))
    (signed / "config.json").write_text("{}")
    with pytest.raises(ManifestError) as caught:
        unchanged.before_start()
    assert caught.value.code == "model.changed"
    (signed / "x.py").touch()
    with pytest.raises(ManifestError) as caught:
        unchanged.before_start()
    assert caught.value.code == "model.code"


def test_changed_while_loading_even_if_put_back(signed: Path) -> None:
    unchanged = Unchanged(verifying.measure(signed, "required", TRUSTED))
    unchanged.before_start()
    before = (signed / "model.safetensors").read_bytes()
    (signed / "model.safetensors").write_bytes(b"other weights")
    (signed / "model.safetensors").write_bytes(before)
    with pytest.raises(ManifestError, match=r"model\.safetensors") as caught:
        unchanged.after_loading()
    assert caught.value.code == "model.changed_while_loading"
