"""A TLS key of the operator's, through the whole locked server: stated as such, and its certificate renewed while it serves."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
import time
from datetime import datetime, timezone
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from deployment import Up, make_settings, running

from rlu_attestation.encoding import b64u
from rlu_server.adapters.tls import certificate
from rlu_server.settings import Settings
from rlu_server.supervisor import prepare, runtime
from rlu_server.supervisor.errors import ServeError

NOW = datetime.now(timezone.utc).replace(microsecond=0)
PEM, DER = serialization.Encoding.PEM, serialization.Encoding.DER


def write(path: Path, data: bytes) -> None:
    (path.parent / "new").write_bytes(data)
    (path.parent / "new").replace(path)


def settings_of(home: Path) -> Settings:
    made = make_settings(home).model_dump(exclude_unset=True)
    made["gateway"] |= {"tls_certificate_file": home / "tls.crt", "tls_key_file": home / "tls.key"}
    return Settings.model_validate(made)


def refusals(up: Up) -> list[object]:
    """Codes; of files that are replaced one after the other also that they do not belong together."""
    return [values["code"] for name, values in up.events if name == "certificate_refused"]


async def shown(up: Up) -> bytes:
    """The certificate of a new connection."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", up.deployment.settings.gateway.port, ssl=context)
    found: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return found


async def test_a_provided_key_is_stated_and_its_certificate_renewed(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    one, other = (certificate(key, ("localhost",), NOW, number) for number in (0, 1))
    write(tmp_path / "tls.crt", one.public_bytes(PEM))
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    write(tmp_path / "tls.key", key.private_bytes(PEM, *plain))
    spki = key.public_key().public_bytes(DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    async with running(tmp_path, settings_of(tmp_path)) as up:
        assert await shown(up) == one.public_bytes(DER)
        _, told, _ = await up.call("GET", "/.well-known/rlu-configuration")
        assert told["tls"] == {"origin": "provisioned", "spki_sha256": b64u(hashlib.sha256(spki).digest())}
        status, _, _ = await up.ask()
        assert status == 200
        write(tmp_path / "tls.crt", other.public_bytes(PEM))
        deadline = time.monotonic() + 60
        while await shown(up) != other.public_bytes(DER):
            assert time.monotonic() < deadline, up.events
            await asyncio.sleep(0.1)
        await up.until(lambda: up.said("certificate_renewed") == 1)
        # Another key is not the one that was attested.
        stranger = ec.generate_private_key(ec.SECP256R1())
        write(tmp_path / "tls.key", stranger.private_bytes(PEM, *plain))
        write(tmp_path / "tls.crt", certificate(stranger, ("localhost",), NOW, 0).public_bytes(PEM))
        await up.until(lambda: "tls.key_changed" in refusals(up))
        assert await shown(up) == other.public_bytes(DER)


def test_a_start_without_the_key_says_so(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    place = runtime.create(None)
    try:
        with pytest.raises(ServeError, match="tls_certificate_file"):
            prepare.deployment(settings, place, {}, None)
    finally:
        place.remove()
