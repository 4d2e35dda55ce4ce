"""The registrar's directory.

registrar.key.pem    private key, PKCS#8, mode 0600
registrar.crt.pem    self-signed certificate; policies name it
challenges/<id>.json open challenges, each good for one answer
issued.jsonl         one line for each certificate issued
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from cryptography import x509 as pyca
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from rlu_attestation import endorsement, x509
from rlu_attestation.errors import Refused
from rlu_server.attestor.secret import write_private

CERTIFICATE_YEARS = 10
SERIAL_SIZE = 16


@dataclass(frozen=True, slots=True)
class Registrar:
    """A registrar's key and certificate, and where it keeps its records."""

    directory: Path
    key: ec.EllipticCurvePrivateKey
    certificate: bytes

    @property
    def challenges(self) -> Path:
        return self.directory / "challenges"

    def record(self, entry: dict[str, str | int]) -> None:
        """Append to the record of certificates issued, on the disk before this returns."""
        path = self.directory / "issued.jsonl"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(json.dumps(entry, sort_keys=True).encode("utf-8") + b"\n")
            file.flush()
            os.fsync(file.fileno())


def certificate_path(directory: Path) -> Path:
    """PEM file of the registrar's certificate."""
    return directory / "registrar.crt.pem"


def create(directory: Path, name: str, now: datetime, serial: int) -> Registrar:
    """Make a registrar.

    Args:
        name: common name of its certificate.
        serial: of that certificate, random.

    Raises:
        Refused: there is one already.
    """
    if _key_path(directory).exists():
        raise Refused("registrar.exists", f"{directory} holds a registrar already; it is not replaced")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    start = now.astimezone(timezone.utc).replace(microsecond=0)
    der = endorsement.issue_registrar(
        name, key, serial=serial, not_before=start, not_after=_years_later(start, CERTIFICATE_YEARS)
    )
    (directory / "challenges").mkdir(mode=0o700, exist_ok=True)
    write_private(certificate_path(directory), _pem(der))
    os.chmod(certificate_path(directory), 0o644)
    # The key last: a registrar whose key is there is complete.
    write_private(
        _key_path(directory),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
    return Registrar(directory, key, der)


def load(directory: Path) -> Registrar:
    """Open a registrar's directory.

    Raises:
        Refused: there is none, or key and certificate do not belong together.
    """
    try:
        key = serialization.load_pem_private_key(_key_path(directory).read_bytes(), None)
        certificates = x509.parse_many(certificate_path(directory).read_bytes())
    except FileNotFoundError as error:
        raise Refused(
            "registrar.missing", f"{directory} holds no registrar: make one with `rlu registrar init`"
        ) from error
    except (ValueError, TypeError) as error:
        raise Refused("registrar.damaged", f"{directory}: the key file is damaged") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or len(certificates) != 1:
        raise Refused("registrar.damaged", f"{directory}: key or certificate has another form")
    if certificates[0].public_key() != key.public_key():
        raise Refused("registrar.damaged", f"{directory}: key and certificate do not belong together")
    return Registrar(directory, key, certificates[0].raw)


def _key_path(directory: Path) -> Path:
    return directory / "registrar.key.pem"


def _pem(der: bytes) -> bytes:
    return pyca.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM)


def _years_later(start: datetime, years: int) -> datetime:
    day = 28 if (start.month, start.day) == (2, 29) else start.day
    return start.replace(year=start.year + years, day=day)
