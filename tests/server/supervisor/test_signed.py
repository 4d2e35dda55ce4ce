"""`[model] signature`: an engine is started with the model that was signed, or not at all, and the statement says which."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from deployment import make_model, make_settings, running, stand_in

from rlu_attestation import canonical, jose
from rlu_attestation.encoding import b64u
from rlu_server.engine import readiness
from rlu_server.models import measure, signing
from rlu_server.settings import Settings
from rlu_server.supervisor import prepare, runtime
from rlu_server.supervisor.errors import Misconfigured, ModelRefused, ServeError, StartFailed

KEY = ec.generate_private_key(ec.SECP256R1())


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch)


def signed_settings(home: Path, **changes: Any) -> Settings:
    model = make_model(home)
    (model / "model.sig").write_bytes(signing.sign(measure(model), "m", KEY))
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    (home / "vendor.pub").write_bytes(KEY.public_key().public_bytes(serialization.Encoding.PEM, form))
    document = make_settings(home).model_dump()
    document["model"].update({"signature": "required", "signers": [home / "vendor.pub"], **changes})
    return Settings.model_validate(document)


async def stated(up: Any) -> dict[str, Any]:
    _, attestation, _ = await up.call("GET", f"/v1/rlu/attestation?nonce={b64u(bytes(32))}")
    statement = attestation["attestation"]["statement"]
    claims = canonical.decode(jose.jws_parse(statement).payload)
    found: dict[str, Any] = claims["rlu_model"]
    return found


async def test_the_statement_names_the_signer(tmp_path: Path) -> None:
    async with running(tmp_path, signed_settings(tmp_path)) as up:
        assert (await up.ask())[0] == 200
        signer = b64u(signing.key_id(KEY.public_key()))
        found = await stated(up)
        assert found["signature"] == {"result": "verified", "signer": signer}
        assert found["manifest_sha256"] == b64u(measure(tmp_path / "m").sha256)
        assert not up.said("engine.model_not_verified")


@pytest.mark.parametrize("altered", [False, True])
async def test_without_a_good_signature_it_says_so(tmp_path: Path, altered: bool) -> None:
    settings = signed_settings(tmp_path, signature="unsafe-optional")
    if altered:
        (tmp_path / "m" / "more.txt").touch()
    else:
        (tmp_path / "m" / "model.sig").unlink()
    async with running(tmp_path, settings) as up:
        assert (await stated(up))["signature"] == {"result": "failed" if altered else "unsigned"}
        code = "model.signature.mismatch" if altered else "model.signature.absent"
        assert ("engine.model_not_verified", {"code": code}) in up.events


def refused(settings: Settings) -> ServeError:
    place = runtime.create(None)
    try:
        with pytest.raises(ServeError) as caught:
            prepare.deployment(settings, place, {}, None)
    finally:
        place.remove()
    return caught.value


def test_unsigned_and_altered_models_refuse(tmp_path: Path) -> None:
    settings = signed_settings(tmp_path)
    (tmp_path / "m" / "model.safetensors").write_bytes(b"weightz")
    error = refused(settings)
    assert isinstance(error, ModelRefused)
    assert (error.code, error.exit_code) == ("serve.model_refused", 10)
    assert "model.safetensors was changed [model.signature.mismatch]" in str(error)
    (tmp_path / "m" / "model.sig").unlink()
    error = refused(settings)
    assert isinstance(error, ModelRefused)
    assert "[model.signature.absent]" in str(error)
    assert 'signature = "unsafe-optional"' in str(error)


def test_required_is_what_nobody_sets() -> None:
    assert Settings().model.signature == "required"


def test_signers_that_are_none(tmp_path: Path) -> None:
    error = refused(signed_settings(tmp_path, signers=[tmp_path / "missing.pub"]))
    assert isinstance(error, Misconfigured)
    assert "missing.pub" in str(error)


async def test_a_model_that_changes_while_the_engine_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy = readiness.wait_healthy

    async def meanwhile(socket: Path) -> None:
        await healthy(socket)
        weights = tmp_path / "m" / "model.safetensors"
        before = weights.read_bytes()
        weights.write_bytes(b"other")
        weights.write_bytes(before)

    monkeypatch.setattr(readiness, "wait_healthy", meanwhile)
    with pytest.raises(StartFailed, match=r"model\.changed_while_loading"):
        async with running(tmp_path, signed_settings(tmp_path)):
            pytest.fail("it serves")


async def test_a_model_that_changed_since_it_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decided = prepare.deployment

    def then_changed(*arguments: Any) -> Any:
        deployment = decided(*arguments)
        (tmp_path / "m" / "config.json").write_text('{"model_type": "qwen3" }')
        return deployment

    monkeypatch.setattr(prepare, "deployment", then_changed)
    with pytest.raises(StartFailed, match=r"not those that were measured.*\[model\.changed\]"):
        async with running(tmp_path, signed_settings(tmp_path)):
            pytest.fail("it serves")
