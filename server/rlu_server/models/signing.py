"""Signatures of models in the form of OpenSSF Model Signing 1.0 (FORMATS section 9.1), made and verified without a network.

The form: a Sigstore bundle with one DSSE envelope, in it an in-toto statement that names every file with its SHA-256. Signed with a plain
key, or with a key that a certificate chain speaks for. What `model_signing` writes with either verifies here, and the reverse, but for
Ed25519 keys, which it does not know. Not here: signatures through Sigstore's public services, which need them; shards; other hashes.

Steps of `verify`: 1 the bundle is one; 2 its key is one of those that are trusted, by itself or through a chain to a trusted root; 3 the
envelope's signature holds; 4 the statement is one of files by SHA-256, consistent in itself. `compare` then holds it against the manifest:
every file signed is there, every file there is signed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from rlu_attestation import x509
from rlu_attestation.chain import verify_chain
from rlu_attestation.errors import Malformed, RluError, Unsupported, Untrusted
from rlu_attestation.strict_json import unique
from rlu_server.models.errors import BadArgument, SignatureRefused
from rlu_server.models.manifest import Manifest
from rlu_server.models.walking import SIGNATURE

MAX_SIGNATURE = 64 << 20
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
IN_TOTO = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://model_signing/signature/v1.0"
CODE_SIGNING = "1.3.6.1.5.5.7.3.3"
DIGITAL_SIGNATURE = 0
MAX_CHAIN = 8
_SHOWN = 4

PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
_HASHES: Mapping[str, hashes.HashAlgorithm] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}


@dataclass(frozen=True, slots=True)
class Signers:
    """Whose signatures count: plain keys, and roots of certificate chains."""

    keys: tuple[PublicKey, ...] = ()
    roots: tuple[x509.Certificate, ...] = ()


@dataclass(frozen=True, slots=True)
class Signed:
    """What a trusted key signed."""

    signer: bytes
    """SHA-256 of the signing key's SubjectPublicKeyInfo."""
    files: Mapping[str, bytes]
    """Path to SHA-256."""


def key_id(key: PublicKey) -> bytes:
    """SHA-256 of the key's SubjectPublicKeyInfo: how statements and policies name it."""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).digest()


def private_key(pem: bytes, password: bytes | None = None) -> PrivateKey:
    """Raises BadArgument (`model.key`)."""
    try:
        key = serialization.load_pem_private_key(pem, password)
    except TypeError as error:
        raise BadArgument("model.key", "the key is encrypted; pass its password") from error
    except ValueError as error:
        raise BadArgument("model.key", "no private key in PEM, or another password") from error
    if isinstance(key, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) and _supported(
        key.public_key()
    ):
        return key
    raise BadArgument("model.key", "the key must be P-256, P-384, P-521 or Ed25519")


def signers(pems: Iterable[tuple[str, bytes]]) -> Signers:
    """Read files of PEM blocks, public keys and certificates; each has its name for errors. Raises BadArgument (`model.signers`)."""
    keys: list[PublicKey] = []
    roots: list[x509.Certificate] = []
    for name, pem in pems:
        try:
            blocks = x509.pem_blocks(pem)
            for label, content in blocks:
                if label == b"CERTIFICATE":
                    roots.append(x509.parse(content))
                    continue
                key = serialization.load_der_public_key(content) if label == b"PUBLIC KEY" else None
                if not (
                    isinstance(key, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey) and _supported(key)
                ):
                    raise ValueError
                keys.append(key)
        except (RluError, ValueError) as error:
            raise BadArgument(
                "model.signers",
                f"{name} holds something else than public keys (P-256, P-384, P-521, Ed25519) and certificates in PEM",
            ) from error
        if not blocks:
            raise BadArgument("model.signers", f"{name} holds no public key and no certificate in PEM")
    return Signers(tuple(keys), tuple(roots))


def sign(
    manifest: Manifest,
    name: str,
    key: PrivateKey,
    *,
    links: bool = False,
    certificates: Sequence[x509.Certificate] = (),
) -> bytes:
    """The signature file.

    Args:
        name: the model's, for readers; nothing depends on it.
        links: some of the files are symbolic links.
        certificates: the signing certificate and those above it, root excluded or not; empty signs with the key alone.

    Raises:
        BadArgument: `model.certificate`.
    """
    public = key.public_key()
    if certificates and hashlib.sha256(certificates[0].spki).digest() != key_id(public):
        raise BadArgument("model.certificate", "the signing certificate is not one of this key")
    payload = json.dumps(_statement(manifest, name, links), sort_keys=True).encode("ascii")
    to_sign = _pae(IN_TOTO, payload)
    made = (
        key.sign(to_sign)
        if isinstance(key, ed25519.Ed25519PrivateKey)
        else key.sign(to_sign, ec.ECDSA(_HASHES[key.curve.name]))
    )
    if certificates:
        chain = [{"rawBytes": _b64(one.raw)} for one in certificates]
        material: dict[str, Any] = {"x509CertificateChain": {"certificates": chain}, "tlogEntries": []}
    else:
        material = {"publicKey": {"hint": _hint(public)}, "tlogEntries": []}
    envelope = {
        "payload": _b64(payload),
        "payloadType": IN_TOTO,
        "signatures": [{"keyid": "", "sig": _b64(made)}],
    }
    bundle = {"mediaType": BUNDLE, "verificationMaterial": material, "dsseEnvelope": envelope}
    return json.dumps(bundle).encode("ascii") + b"\n"


def verify(data: bytes, trusted: Signers) -> Signed:
    """Verify a signature file.

    Raises:
        Malformed: `model.signature.encoding`, `model.signature.statement`.
        Unsupported: `model.signature.unsupported`.
        Untrusted: `model.signature.unknown_signer`, `model.signature.invalid`, `model.signature.usage`, and `model.signature.chain.…` of
            `verify_chain`.
    """
    bundle = _Object.parse(data)
    if bundle.text("mediaType") != BUNDLE:
        raise Unsupported("model.signature.unsupported", f"the bundle's media type is not {BUNDLE}")
    envelope = bundle.object("dsseEnvelope")
    key = _key(bundle.object("verificationMaterial"), trusted)
    signatures = envelope.array("signatures")
    if len(signatures) != 1:
        raise Unsupported("model.signature.unsupported", "the envelope has not exactly one signature")
    payload = envelope.binary("payload")
    payload_type = envelope.text("payloadType")
    if payload_type != IN_TOTO:
        raise Unsupported("model.signature.unsupported", f"the envelope's payload type is not {IN_TOTO}")
    _check(key, _Object(signatures[0]).binary("sig"), _pae(payload_type, payload))
    return Signed(key_id(key), _files(_Object.parse(payload)))


def compare(signed: Signed, manifest: Manifest) -> None:
    """The files are those that were signed, no more and no less. Raises SignatureRefused (`model.signature.mismatch`)."""
    here = {file.path: file.sha256 for file in manifest.files}
    differences = [
        *(f"{path} is missing" for path in sorted(signed.files.keys() - here.keys())),
        *(f"{path} is not signed" for path in sorted(here.keys() - signed.files.keys())),
        *(
            f"{path} was changed"
            for path in sorted(signed.files.keys() & here.keys())
            if signed.files[path] != here[path]
        ),
    ]
    if differences:
        more = f", and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
        raise SignatureRefused(
            "model.signature.mismatch",
            f"the model is not the one that was signed: {', '.join(differences[:_SHOWN])}{more}",
        )


def _statement(manifest: Manifest, name: str, links: bool) -> dict[str, Any]:
    root = hashlib.sha256(b"".join(file.sha256 for file in manifest.files)).hexdigest()
    return {
        "_type": STATEMENT,
        "predicate": {
            "resources": [
                {"algorithm": "sha256", "digest": file.sha256.hex(), "name": file.path}
                for file in manifest.files
            ],
            "serialization": {
                "allow_symlinks": links,
                "hash_type": "sha256",
                "ignore_paths": [SIGNATURE],
                "method": "files",
            },
        },
        "predicateType": PREDICATE,
        "subject": [{"digest": {"sha256": root}, "name": name}],
    }


def _files(statement: _Object) -> dict[str, bytes]:
    if statement.text("_type") != STATEMENT or statement.text("predicateType") != PREDICATE:
        raise Unsupported("model.signature.unsupported", f"the statement is not {PREDICATE}")
    predicate = statement.object("predicate")
    serialization_ = predicate.object("serialization")
    if (serialization_.text("method"), serialization_.text("hash_type")) != ("files", "sha256"):
        raise Unsupported("model.signature.unsupported", "the files are not named by their SHA-256; sign so")
    subjects = statement.array("subject")
    if len(subjects) != 1:
        raise Malformed("model.signature.statement", "the statement has not exactly one subject")
    files: dict[str, bytes] = {}
    for entry in predicate.array("resources"):
        resource = _Object(entry)
        path, digest = resource.text("name"), resource.hexadecimal("digest")
        if resource.text("algorithm") != "sha256" or path in files:
            raise Malformed("model.signature.statement", "a file is named twice, or by another hash")
        files[path] = digest
    root = hashlib.sha256(b"".join(files.values())).digest()
    if not files or _Object(subjects[0]).object("digest").hexadecimal("sha256") != root:
        raise Malformed("model.signature.statement", "the subject's digest is not that of the files")
    return files


def _key(material: _Object, trusted: Signers) -> PublicKey:
    if "x509CertificateChain" in material.value:
        return _certified(material.object("x509CertificateChain").array("certificates"), trusted)
    if "publicKey" not in material.value:
        raise Unsupported(
            "model.signature.unsupported",
            "the signature names neither key nor certificate chain; those of Sigstore's public services are not verified here",
        )
    hint = material.object("publicKey").text("hint")
    for key in trusted.keys:
        if _hint(key) == hint:
            return key
    raise Untrusted("model.signature.unknown_signer", "the signature is by a key that is not trusted")


def _certified(entries: Sequence[object], trusted: Signers) -> PublicKey:
    """The leaf's key. Validity is looked at as of the leaf's first moment, as `model_signing` does: a bundle proves no time of signing."""
    if not 0 < len(entries) <= MAX_CHAIN:
        raise Malformed("model.signature.encoding", f"a chain has 1 to {MAX_CHAIN} certificates")
    if not trusted.roots:
        raise Untrusted(
            "model.signature.unknown_signer", "the signature is by a certificate, and no root is trusted"
        )
    leaf, *others = (x509.parse(_Object(entry).binary("rawBytes")) for entry in entries)
    verify_chain(leaf, others, trusted.roots, leaf.not_before, "model.signature.chain")
    usage, extended = leaf.key_usage(), leaf.extended_key_usage()
    if DIGITAL_SIGNATURE not in (usage or ()) and CODE_SIGNING not in (extended or ()):
        raise Untrusted("model.signature.usage", "the signing certificate is not one for signatures")
    key = leaf.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not _supported(key):
        raise Unsupported(
            "model.signature.unsupported", "the signing certificate's key is no P-256, P-384 or P-521 key"
        )
    return key


def _check(key: PublicKey, signature: bytes, signed: bytes) -> None:
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, signed)
        else:
            key.verify(signature, signed, ec.ECDSA(_HASHES[key.curve.name]))
    except InvalidSignature as error:
        raise Untrusted("model.signature.invalid", "the signature does not hold") from error


def _supported(key: PublicKey) -> bool:
    return isinstance(key, ed25519.Ed25519PublicKey) or key.curve.name in _HASHES


def _pae(payload_type: str, payload: bytes) -> bytes:
    """What is signed: DSSE 1.0, Pre-Authentication Encoding."""
    return b"DSSEv1 %d %s %d %s" % (len(payload_type), payload_type.encode(), len(payload), payload)


def _hint(key: PublicKey) -> str:
    """How `model_signing` names a key: SHA-256 of its PEM text."""
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(pem).hexdigest()


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


class _Object:
    """A JSON object, its members read by type; what is not asked for is ignored, as the format wants it."""

    def __init__(self, value: object) -> None:
        if not isinstance(value, dict):
            raise Malformed("model.signature.encoding", "the signature is not of the documented form")
        self.value: dict[str, Any] = value

    @classmethod
    def parse(cls, data: bytes) -> _Object:
        if len(data) > MAX_SIGNATURE:
            raise Malformed("model.signature.encoding", f"the signature is longer than {MAX_SIGNATURE} bytes")
        try:
            return cls(json.loads(data.decode("utf-8"), object_pairs_hook=unique))
        except (ValueError, RecursionError) as error:
            raise Malformed("model.signature.encoding", "the signature is not JSON") from error

    def text(self, name: str) -> str:
        value: str = self._of(name, str)
        return value

    def array(self, name: str) -> list[object]:
        value: list[object] = self._of(name, list)
        return value

    def object(self, name: str) -> _Object:
        return _Object(self.value.get(name))

    def binary(self, name: str) -> bytes:
        try:
            return base64.b64decode(self.text(name), validate=True)
        except (binascii.Error, ValueError) as error:
            raise self._wrong(name) from error

    def hexadecimal(self, name: str) -> bytes:
        """32 bytes."""
        text = self.text(name)
        if len(text) != 2 * hashlib.sha256().digest_size or not all(c in "0123456789abcdef" for c in text):
            raise self._wrong(name)
        return bytes.fromhex(text)

    def _of(self, name: str, kind: type[Any]) -> Any:
        value = self.value.get(name)
        if not isinstance(value, kind):
            raise self._wrong(name)
        return value

    @staticmethod
    def _wrong(name: str) -> Malformed:
        return Malformed("model.signature.encoding", f"{name} is missing or not of its form")
