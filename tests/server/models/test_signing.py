"""FORMATS section 9.1: keys and certificates, each perturbation with its code, and both directions with OpenSSF's own tool."""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509 as made_x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from rlu_attestation import x509
from rlu_attestation.errors import RluError
from rlu_server.models import measure, signing
from rlu_server.models.manifest import File, Manifest
from rlu_server.models.signing import Signers

KEY = ec.generate_private_key(ec.SECP256R1())
OTHER = ec.generate_private_key(ec.SECP256R1())
MANIFEST = Manifest(
    (File("config.json", 2, bytes(range(32))), File("dir/é\n.safetensors", 9, hashlib.sha256(b"w").digest()))
)
SIGNED = signing.sign(MANIFEST, "m", KEY)
TRUSTED = Signers((OTHER.public_key(), KEY.public_key()))


def public_pem(key: Any) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return bytes(key.public_key().public_bytes(serialization.Encoding.PEM, form))


def private_pem(key: Any, password: bytes | None = None) -> bytes:
    form = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, form))


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP521R1()),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["P-256", "P-384", "P-521", "Ed25519"],
)
def test_with_every_kind_of_key(key: Any) -> None:
    loaded = signing.private_key(private_pem(key))
    signers = signing.signers([("one", public_pem(OTHER)), ("two", public_pem(key))])
    signed = signing.verify(signing.sign(MANIFEST, "m", loaded), signers)
    assert signed.files == {file.path: file.sha256 for file in MANIFEST.files}
    der = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert signed.signer == hashlib.sha256(der).digest()
    signing.compare(signed, MANIFEST)


def altered(change: Callable[[dict[str, Any]], object]) -> bytes:
    bundle = json.loads(SIGNED)
    change(bundle)
    return json.dumps(bundle).encode()


def resigned(change: Callable[[dict[str, Any]], object]) -> bytes:
    """Another statement, signed as it stands."""
    bundle = json.loads(SIGNED)
    statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    change(statement)
    payload = json.dumps(statement).encode()
    to_sign = b"DSSEv1 28 application/vnd.in-toto+json %d %s" % (len(payload), payload)
    made = KEY.sign(to_sign, ec.ECDSA(hashes.SHA256()))
    bundle["dsseEnvelope"].update(payload=base64.b64encode(payload).decode())
    bundle["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(made).decode()
    return json.dumps(bundle).encode()


def flipped(text: str) -> str:
    data = bytearray(base64.b64decode(text))
    data[-1] ^= 1
    return base64.b64encode(data).decode()


def resources(statement: dict[str, Any]) -> list[dict[str, str]]:
    found: list[dict[str, str]] = statement["predicate"]["resources"]
    return found


def hint(key: Any) -> dict[str, str]:
    return {"hint": hashlib.sha256(public_pem(key)).hexdigest()}


INVALID, UNSUPPORTED = "model.signature.invalid", "model.signature.unsupported"
ENCODING, STATEMENT = "model.signature.encoding", "model.signature.statement"
PERTURBED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", ENCODING),
    "no JSON": (SIGNED[:-4], ENCODING),
    "no object": (b"[]", ENCODING),
    "not UTF-8": (b"\xff" + SIGNED, ENCODING),
    "nested deep": (b"[" * 100_000, ENCODING),
    "a member twice": (SIGNED.replace(b'{"mediaType"', b'{"mediaType": "x", "mediaType"', 1), ENCODING),
    "another media type": (altered(lambda b: b.update(mediaType="x")), UNSUPPORTED),
    "no envelope": (altered(lambda b: b.pop("dsseEnvelope")), ENCODING),
    "no material": (altered(lambda b: b.pop("verificationMaterial")), ENCODING),
    "Sigstore's certificate": (
        altered(lambda b: b.update(verificationMaterial={"certificate": {}})),
        UNSUPPORTED,
    ),
    "a message signature": (altered(lambda b: b.update(dsseEnvelope={}, messageSignature={})), ENCODING),
    "hint of nobody": (
        altered(lambda b: b["verificationMaterial"]["publicKey"].update(hint="0" * 64)),
        "model.signature.unknown_signer",
    ),
    "hint of another trusted key": (
        altered(lambda b: b["verificationMaterial"].update(publicKey=hint(OTHER))),
        INVALID,
    ),
    "no signature": (altered(lambda b: b["dsseEnvelope"].update(signatures=[])), UNSUPPORTED),
    "two signatures": (
        altered(lambda b: b["dsseEnvelope"].update(signatures=2 * b["dsseEnvelope"]["signatures"])),
        UNSUPPORTED,
    ),
    "signature altered": (
        altered(
            lambda b: b["dsseEnvelope"]["signatures"][0].update(
                sig=flipped(b["dsseEnvelope"]["signatures"][0]["sig"])
            )
        ),
        INVALID,
    ),
    "signature not base64": (
        altered(lambda b: b["dsseEnvelope"]["signatures"][0].update(sig="*")),
        ENCODING,
    ),
    "payload altered": (
        altered(lambda b: b["dsseEnvelope"].update(payload=flipped(b["dsseEnvelope"]["payload"]))),
        INVALID,
    ),
    "another payload type": (altered(lambda b: b["dsseEnvelope"].update(payloadType="x")), UNSUPPORTED),
    "another predicate": (resigned(lambda s: s.update(predicateType="x")), UNSUPPORTED),
    "another statement": (resigned(lambda s: s.update(_type="x")), UNSUPPORTED),
    "shards": (resigned(lambda s: s["predicate"]["serialization"].update(method="shards")), UNSUPPORTED),
    "blake3": (resigned(lambda s: s["predicate"]["serialization"].update(hash_type="blake3")), UNSUPPORTED),
    "a file by another hash": (resigned(lambda s: resources(s)[0].update(algorithm="blake2b")), STATEMENT),
    "a file twice": (resigned(lambda s: resources(s).append(resources(s)[0])), STATEMENT),
    "a digest cut": (resigned(lambda s: resources(s)[0].update(digest="00")), ENCODING),
    "a digest in capitals": (resigned(lambda s: resources(s)[1].update(digest="AB" * 32)), ENCODING),
    "a file less than the subject": (resigned(lambda s: resources(s).pop()), STATEMENT),
    "files in another order than the subject": (resigned(lambda s: resources(s).reverse()), STATEMENT),
    "no files": (resigned(lambda s: resources(s).clear()), STATEMENT),
    "two subjects": (resigned(lambda s: s.update(subject=2 * s["subject"])), STATEMENT),
    "no subject": (resigned(lambda s: s.pop("subject")), ENCODING),
}
EXIT_CODES = {
    INVALID: 10,
    UNSUPPORTED: 20,
    ENCODING: 30,
    STATEMENT: 30,
    "model.signature.unknown_signer": 10,
}


@pytest.mark.parametrize("name", PERTURBED)
def test_perturbed(name: str) -> None:
    data, code = PERTURBED[name]
    with pytest.raises(RluError) as caught:
        signing.verify(data, TRUSTED)
    assert (caught.value.code, caught.value.exit_code) == (code, EXIT_CODES[code])


def test_unperturbed() -> None:
    for data in (SIGNED, altered(lambda b: b.update(more=1)), resigned(lambda s: s["predicate"].update(m=1))):
        assert signing.verify(data, TRUSTED).signer == signing.key_id(KEY.public_key())


@given(st.binary(max_size=200) | st.integers(0, len(SIGNED)).map(lambda cut: SIGNED[:cut]))
def test_arbitrary_bytes_refuse(data: bytes) -> None:
    if data.strip() == SIGNED.strip():
        return
    with pytest.raises(RluError) as caught:
        signing.verify(data, TRUSTED)
    assert caught.value.exit_code in (10, 20, 30)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(["subject", "predicate", "resources", "resource", "serialization"]), json_values)
def test_a_signed_statement_of_any_form(where: str, value: Any) -> None:
    def change(statement: dict[str, Any]) -> None:
        if where in ("subject", "predicate"):
            statement[where] = value
        elif where == "resource":
            resources(statement)[0] = value
        else:
            statement["predicate"][where] = value

    with pytest.raises(RluError) as caught:
        signing.verify(resigned(change), TRUSTED)
    assert caught.value.code in (ENCODING, STATEMENT, UNSUPPORTED)


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"config.json": b"0" * 32}, "config.json was changed"),
        ({"new": b"0" * 32}, "new is not signed"),
        ({"config.json": None}, "config.json is missing"),
        ({f"n{n}": b"0" * 32 for n in range(9)}, "and 5 more"),
    ],
)
def test_another_model_than_the_one_signed(files: dict[str, bytes | None], told: str) -> None:
    here = {file.path: file.sha256 for file in MANIFEST.files} | files
    other = Manifest(tuple(File(path, 1, digest) for path, digest in here.items() if digest is not None))
    with pytest.raises(RluError, match=told) as caught:
        signing.compare(signing.verify(SIGNED, TRUSTED), other)
    assert (caught.value.code, caught.value.exit_code) == ("model.signature.mismatch", 10)


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"no PEM",
        private_pem(KEY),
        public_pem(rsa.generate_private_key(65537, 2048)),
        public_pem(ec.generate_private_key(ec.SECP256K1())),
        b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ],
    ids=["empty", "text", "private", "RSA", "secp256k1", "no key", "no certificate"],
)
def test_what_is_no_signer(pem: bytes) -> None:
    with pytest.raises(RluError) as caught:
        signing.signers([("good", public_pem(KEY)), ("file", pem)])
    assert (caught.value.code, caught.value.exit_code) == ("model.signers", 2)


@pytest.mark.parametrize(
    ("pem", "password"),
    [
        (b"no PEM", None),
        (public_pem(KEY), None),
        (private_pem(KEY, b"secret"), None),
        (private_pem(KEY, b"secret"), b"other"),
        (private_pem(rsa.generate_private_key(65537, 2048)), None),
        (private_pem(ec.generate_private_key(ec.SECP256K1())), None),
    ],
    ids=["text", "public", "no password", "another password", "RSA", "secp256k1"],
)
def test_what_is_no_key(pem: bytes, password: bytes | None) -> None:
    with pytest.raises(RluError) as caught:
        signing.private_key(pem, password)
    assert (caught.value.code, caught.value.exit_code) == ("model.key", 2)
    assert b"secret" not in str(caught.value).encode()


def test_a_key_with_a_password() -> None:
    assert signing.private_key(private_pem(KEY, b"secret"), b"secret").public_key() == KEY.public_key()


# --- certificates ---

BEGAN = datetime.datetime(2025, 1, 1, tzinfo=datetime.timezone.utc)


def certificate(
    name: str, key: Any, issuer: str, issuer_key: Any, *, ca: bool, usage: str = "digital_signature"
) -> bytes:
    def named(text: str) -> made_x509.Name:
        return made_x509.Name([made_x509.NameAttribute(NameOID.COMMON_NAME, text)])

    usages = dict.fromkeys(
        (
            "digital_signature",
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "key_cert_sign",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    usages["key_cert_sign" if ca else usage] = True
    made = (
        made_x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named(issuer))
        .public_key(key.public_key())
        .serial_number(made_x509.random_serial_number())
        .not_valid_before(BEGAN if not ca else BEGAN - datetime.timedelta(days=900))
        .not_valid_after(BEGAN + datetime.timedelta(days=30))
        .add_extension(made_x509.BasicConstraints(ca, None), critical=True)
        .add_extension(made_x509.KeyUsage(**usages), critical=True)
        .add_extension(made_x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            made_x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
        .sign(issuer_key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


ROOT_KEY, BETWEEN_KEY = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))
ROOT = certificate("root", ROOT_KEY, "root", ROOT_KEY, ca=True)
BETWEEN = certificate("between", BETWEEN_KEY, "root", ROOT_KEY, ca=True)
LEAF = certificate("signer", KEY, "between", BETWEEN_KEY, ca=False)


def parsed(*pems: bytes) -> tuple[x509.Certificate, ...]:
    return tuple(x509.parse(content) for pem in pems for _, content in x509.pem_blocks(pem))


def by_certificate(*pems: bytes) -> bytes:
    return signing.sign(MANIFEST, "m", KEY, certificates=parsed(*pems))


def test_with_a_certificate() -> None:
    signers = signing.signers([("root", ROOT)])
    assert signing.verify(by_certificate(LEAF, BETWEEN), signers).signer == signing.key_id(KEY.public_key())
    assert signing.verify(by_certificate(LEAF, BETWEEN, ROOT), signers).files


ELSEWHERE = certificate("root", OTHER, "root", OTHER, ca=True)
CERTIFIED: dict[str, tuple[bytes, bytes, str]] = {
    "another root": (by_certificate(LEAF, BETWEEN), ELSEWHERE, "model.signature.chain.signature"),
    "no chain between": (by_certificate(LEAF), ROOT, "model.signature.chain.unknown_issuer"),
    "issuer is no CA": (
        by_certificate(
            certificate("signer", KEY, "mid", BETWEEN_KEY, ca=False),
            certificate("mid", BETWEEN_KEY, "root", ROOT_KEY, ca=False),
        ),
        ROOT,
        "model.signature.chain.not_a_ca",
    ),
    "not for signatures": (
        by_certificate(
            certificate("signer", KEY, "between", BETWEEN_KEY, ca=False, usage="key_agreement"), BETWEEN
        ),
        ROOT,
        "model.signature.usage",
    ),
    "only keys are trusted": (
        by_certificate(LEAF, BETWEEN),
        public_pem(KEY),
        "model.signature.unknown_signer",
    ),
}


@pytest.mark.parametrize("name", CERTIFIED)
def test_with_a_certificate_that_does_not_count(name: str) -> None:
    data, trusted, code = CERTIFIED[name]
    with pytest.raises(RluError) as caught:
        signing.verify(data, signing.signers([("trusted", trusted)]))
    assert (caught.value.code, caught.value.exit_code) == (code, 10)


def test_a_certificate_of_another_key_does_not_sign() -> None:
    with pytest.raises(RluError) as caught:
        signing.sign(MANIFEST, "m", OTHER, certificates=parsed(LEAF))
    assert (caught.value.code, caught.value.exit_code) == ("model.certificate", 2)


# --- OpenSSF's own tool ---


def theirs(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "model_signing", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=os.environ)


def test_both_directions_with_a_key(model: Path, tmp_path: Path) -> None:
    key, public, signature = tmp_path / "key.pem", tmp_path / "key.pub", model / "model.sig"
    key.write_bytes(private_pem(KEY))
    public.write_bytes(public_pem(KEY))
    done = theirs("sign", "key", model, "--private_key", key, "--signature", signature)
    assert done.returncode == 0, done.stderr
    signing.compare(signing.verify(signature.read_bytes(), TRUSTED), measure(model))
    signature.write_bytes(signing.sign(measure(model), "model", KEY))
    done = theirs("verify", "key", model, "--public_key", public, "--signature", signature)
    assert done.returncode == 0, done.stdout + done.stderr
    (model / "LICENSE").write_text("another")
    done = theirs("verify", "key", model, "--public_key", public, "--signature", signature)
    assert done.returncode != 0


def test_both_directions_with_a_certificate(model: Path, tmp_path: Path) -> None:
    files = {"key": private_pem(KEY), "leaf": LEAF, "between": BETWEEN, "root": ROOT}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    signature = model / "model.sig"
    named = ("--private_key", tmp_path / "key", "--signing_certificate", tmp_path / "leaf")
    chain = ("--certificate_chain", tmp_path / "between")
    done = theirs("sign", "certificate", model, *named, *chain, "--signature", signature)
    assert done.returncode == 0, done.stderr
    signing.compare(signing.verify(signature.read_bytes(), signing.signers([("root", ROOT)])), measure(model))
    signature.write_bytes(signing.sign(measure(model), "model", KEY, certificates=parsed(LEAF, BETWEEN)))
    done = theirs(
        "verify", "certificate", model, "--certificate_chain", tmp_path / "root", "--signature", signature
    )
    assert done.returncode == 0, done.stdout + done.stderr
