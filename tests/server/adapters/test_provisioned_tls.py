"""A TLS key of the operator's: read, watched, renewed for the same key only."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, x25519

from fakes.descriptors import none_free
from rlu_attestation.errors import Malformed
from rlu_server.adapters.provisioned_tls import MAX_FILE, ProvisionedTls
from rlu_server.adapters.tls import RENEWED_AFTER, VALIDITY, certificate

NOW = datetime(2026, 11, 21, tzinfo=timezone.utc)
PEM = serialization.Encoding.PEM
Key = ec.EllipticCurvePrivateKey


def private(key: Key | x25519.X25519PrivateKey, password: bytes | None = None) -> bytes:
    how = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, how)


def issued(key: Key, number: int = 0) -> bytes:
    return certificate(key, ("localhost",), NOW, number).public_bytes(PEM)


@pytest.fixture
def key() -> Key:
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., None]:
    """Puts files there as the supervisor does: each whole, one after the other."""

    def put(**files: bytes) -> None:
        for name, data in files.items():
            (tmp_path / "new").write_bytes(data)
            (tmp_path / "new").replace(tmp_path / name)

    return put


def made(folder: Path) -> ProvisionedTls:
    return ProvisionedTls(folder / "crt", folder / "key")


def test_statements_say_provisioned(put: Callable[..., None], tmp_path: Path, key: Key) -> None:
    chain = issued(key) + issued(ec.generate_private_key(ec.SECP256R1()))
    put(crt=chain, key=private(key))
    tls = made(tmp_path)
    spki = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert (tls.origin, tls.spki_sha256) == ("provisioned", hashlib.sha256(spki).digest())
    assert tls.certificate_pem == chain
    assert not tls.renew(), "nothing changed"


def test_a_renewed_certificate_counts(put: Callable[..., None], tmp_path: Path, key: Key) -> None:
    put(crt=issued(key), key=private(key))
    tls = made(tmp_path)
    put(key=private(key))
    assert not tls.renew(), "written anew, and the same"
    put(crt=issued(key, 1))
    assert tls.expires == (NOW + VALIDITY).timestamp()
    assert tls.renew()
    assert tls.expires == (NOW + RENEWED_AFTER + VALIDITY).timestamp()
    assert x509.load_pem_x509_certificate(tls.certificate_pem).public_bytes(PEM) == issued(key, 1)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"crt": None}, "tls.unreadable"),
        ({"crt": b"no certificate"}, "tls.malformed"),
        ({"key": b"no key"}, "tls.malformed"),
        ({"crt": b"x" * (MAX_FILE + 1)}, "tls.malformed"),
        ({"key": private(ec.generate_private_key(ec.SECP256R1()), b"secret")}, "tls.malformed"),
        ({"key": private(ec.generate_private_key(ec.SECP256R1()))}, "tls.mismatch"),
        ({"key": private(x25519.X25519PrivateKey.generate())}, "tls.mismatch"),
    ],
)
def test_what_cannot_be_used_is_refused(
    put: Callable[..., None], tmp_path: Path, key: Key, changes: dict[str, bytes | None], code: str
) -> None:
    good = {"crt": issued(key), "key": private(key)}
    put(**{name: data for name, data in {**good, **changes}.items() if data is not None})
    with pytest.raises(Malformed) as caught:
        made(tmp_path)
    assert caught.value.code == code
    assert "PRIVATE" not in caught.value.message
    # And while it serves the one before stays; it is told once, and the repaired one counts.
    put(**good)
    tls = made(tmp_path)
    for name, data in changes.items():
        if data is None:
            (tmp_path / name).unlink()
        else:
            put(**{name: data})
    with pytest.raises(Malformed) as caught:
        tls.renew()
    assert caught.value.code == code
    assert not tls.renew()
    assert tls.certificate_pem == good["crt"]
    put(crt=issued(key, 1), key=good["key"])
    assert tls.renew()


def test_another_key_waits_for_a_restart(put: Callable[..., None], tmp_path: Path, key: Key) -> None:
    put(crt=issued(key), key=private(key))
    tls = made(tmp_path)
    before = tls.certificate_pem
    other = ec.generate_private_key(ec.SECP256R1())
    put(crt=issued(other), key=private(other))
    with pytest.raises(Malformed) as caught:
        tls.renew()
    assert caught.value.code == "tls.key_changed"
    assert tls.certificate_pem == before
    assert made(tmp_path).spki_sha256 != tls.spki_sha256


def test_what_cannot_be_read_for_a_moment_counts_later(
    put: Callable[..., None], tmp_path: Path, key: Key
) -> None:
    put(crt=issued(key), key=private(key))
    tls = made(tmp_path)
    put(crt=issued(key, 1))
    with none_free():
        with pytest.raises(Malformed) as caught:
            tls.renew()
        again = tls.renew()
    assert (caught.value.code, again) == ("tls.unreadable", False)
    assert tls.certificate_pem == issued(key)
    assert tls.renew()
    assert tls.certificate_pem == issued(key, 1)
    with none_free():
        assert not tls.renew(), "nothing to read"
