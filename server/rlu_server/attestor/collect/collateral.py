"""Certificates and revocation lists that are stapled to evidence, from a directory of the operator's.

    <collateral>/<kind>/*.pem *.crt *.cer *.der    certificates: DER, or any number in PEM
    <collateral>/<kind>/*.crl                      revocation lists, DER

File names mean nothing otherwise: what a collector needs it recognises by the contents. Files with other endings belong to the collectors
that name them. The directory is read anew for each collection, so that a revocation list can be replaced while the attestor runs. Nothing
here is verified: the verifier does that, and a wrong file makes evidence that does not pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rlu_attestation import crl, x509
from rlu_attestation.crl import CertificateList
from rlu_attestation.errors import RluError
from rlu_attestation.x509 import Certificate
from rlu_server.attestor.collect.collector import read_bounded
from rlu_server.attestor.errors import NotReady

CERTIFICATES = (".pem", ".crt", ".cer", ".der")
REVOCATION_LISTS = (".crl",)
MAX_FILES = 256
MAX_FILE = 1 << 20

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Collateral:
    """What a directory holds, in the order of the file names."""

    certificates: tuple[Certificate, ...] = ()
    crls: tuple[CertificateList, ...] = ()

    def issuer_of(self, certificate: Certificate) -> Certificate | None:
        """The first certificate whose subject is the issuer that `certificate` names."""
        return next((c for c in self.certificates if c.subject == certificate.issuer), None)

    def crl_of(self, issuer: Certificate) -> CertificateList | None:
        """The newest revocation list that names `issuer`."""
        lists = [found for found in self.crls if found.issuer == issuer.subject]
        return max(lists, key=lambda found: found.this_update, default=None)


def load(directory: Path) -> Collateral:
    """Everything in a directory; nothing if there is no such directory.

    Raises:
        NotReady: a file that cannot be read, or is not what its name says (`collateral.file`).
    """
    certificates: list[Certificate] = []
    crls: list[CertificateList] = []
    for path in files(directory):
        if path.suffix in CERTIFICATES:
            certificates += _parsed(path, x509.parse_many)
        elif path.suffix in REVOCATION_LISTS:
            crls += _parsed(path, lambda data: (crl.parse(data),))
    return Collateral(tuple(certificates), tuple(crls))


def read(path: Path) -> bytes:
    """A file that its collector names.

    Raises:
        NotReady: it cannot be read, or has more than 1 MiB (`collateral.file`).
    """
    try:
        return read_bounded(path, MAX_FILE)
    except OSError as error:
        raise NotReady(
            "collateral.file", f"{path}: {error.strerror}; see [attestation] collateral_dir"
        ) from error


def files(directory: Path) -> Iterator[Path]:
    """The regular files of a directory, sorted; none if it is absent.

    Raises:
        NotReady: the directory cannot be listed, or holds more than 256 files (`collateral.directory`).
    """
    try:
        found = sorted(path for path in directory.iterdir() if path.is_file())
    except FileNotFoundError:
        return
    except OSError as error:
        raise NotReady("collateral.directory", f"{directory}: {error.strerror}") from error
    if len(found) > MAX_FILES:
        raise NotReady("collateral.directory", f"{directory} holds more than {MAX_FILES} files")
    yield from found


def _parsed(path: Path, parse: Callable[[bytes], tuple[T, ...]]) -> tuple[T, ...]:
    try:
        return parse(read(path))
    except NotReady:
        raise
    except RluError as error:
        raise NotReady("collateral.file", f"{path}: {error.message}; remove or replace it") from error
