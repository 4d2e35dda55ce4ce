"""A software key, for laptops: `"hardware": "none"` in every statement, and verifiers reject it unless told not to."""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256

from rlu_attestation import canonical
from rlu_server.attestor.errors import NotReady
from rlu_server.attestor.platform import BindingProof, Evidence
from rlu_server.attestor.secret import write_private


class SoftwarePlatform:
    """A P-256 key in this process's memory; from a PKCS#8 PEM file if one is given, else new."""

    kind = "none"
    verified_boot = False

    def __init__(self, key_file: Path | None, counter_file: Path) -> None:
        self._key = _read_key(key_file) if key_file is not None else ec.generate_private_key(ec.SECP256R1())
        self._counter_file = counter_file

    @property
    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._key.public_key()

    def sign(self, digest: bytes) -> bytes:
        der = self._key.sign(digest, ec.ECDSA(utils.Prehashed(SHA256())))
        r, s = utils.decode_dss_signature(der)
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def collect(self, root: bytes) -> Evidence:
        def for_statement(proof: BindingProof) -> bytes:
            return canonical.encode({"kind": self.kind})

        return for_statement

    def raise_start_counter(self) -> int:
        """A number in a file: it shows restarts and, unlike a TPM's, proves nothing."""
        try:
            value = int(self._counter_file.read_text("ascii"))
        except FileNotFoundError:
            value = 0
        except (OSError, ValueError) as error:
            raise NotReady("counter.file", f"{self._counter_file} does not hold a number") from error
        write_private(self._counter_file, str(value + 1).encode("ascii"))
        return value + 1

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
