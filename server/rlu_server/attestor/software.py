"""A software key, for laptops: `"hardware": "none"` in every statement, and verifiers reject it unless told not to."""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from rlu_attestation import canonical
from rlu_server.attestor import memory_key
from rlu_server.attestor.errors import NotReady
from rlu_server.attestor.places import KeyAt, Place
from rlu_server.attestor.platform import BindingProof, Evidence


class SoftwarePlatform:
    """A P-256 key in this process's memory; from a PKCS#8 PEM file if one is given, else new."""

    kind = "none"
    collects_beside = False
    verified_boot = False

    def __init__(self, key_file: Path | None, counter_file: Path) -> None:
        self._key = _read_key(key_file) if key_file is not None else ec.generate_private_key(ec.SECP256R1())
        self._from_file = key_file is not None
        self._counter_file = counter_file

    @property
    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._key.public_key()

    def sign(self, digest: bytes) -> bytes:
        return memory_key.sign(self._key, digest)

    def collect(self, root: bytes) -> Evidence:
        def for_statement(proof: BindingProof) -> bytes:
            return canonical.encode({"kind": self.kind})

        return for_statement

    def beside(self, key: Place) -> SoftwarePlatform:
        if self._from_file:
            raise NotReady(
                "rotation.key_file", "a software key that you gave is yours to replace: give another file"
            )
        return SoftwarePlatform(None, self._counter_file)

    def evict(self, key: KeyAt) -> None:
        """Nothing: no key of this kind is at a handle."""

    def raise_start_counter(self) -> int:
        """Raises NotReady when the file is damaged."""
        return memory_key.count_start(self._counter_file)

    def close(self) -> None:
        pass


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise NotReady("key.file", f"{os.fspath(path)} is not an unencrypted PKCS#8 PEM key") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise NotReady("key.file", f"{os.fspath(path)} is not a P-256 key")
    return key
