"""A directory of pieces, each a file named by kind and digest. What is written was checked; what is read is checked again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from rlu_attestation.bundle import COLLATERAL
from rlu_attestation.collateral.http import MAX_ANSWER
from rlu_attestation.collateral.want import CERTIFICATES
from rlu_attestation.files import Unreadable, read

SUFFIXES: Mapping[str, str] = MappingProxyType(
    {
        "nvidia-rim": ".xml",
        "ocsp-response": ".ocsp",
        "tdx-collateral": ".json",
        "x509-crl": ".crl",
        CERTIFICATES: ".pem",
    }
)
_DIGITS = 32
assert set(SUFFIXES) == {*COLLATERAL, CERTIFICATES}


def name_of(kind: str, data: bytes) -> str:
    """`<kind>-<first 32 hexadecimal digits of the SHA-256><suffix>`."""
    return f"{kind}-{hashlib.sha256(data).hexdigest()[:_DIGITS]}{SUFFIXES[kind]}"


class Store:
    """The directory. Files of other names are not looked at."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def pieces(self) -> tuple[tuple[str, bytes], ...]:
        """Kind and content of every piece, by name.

        Raises:
            Unreadable: `file.unreadable`; `collateral.changed`: a file's content is not what its name says.
        """
        try:
            entries = sorted(path for path in self.directory.iterdir() if path.is_file())
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise Unreadable("file.unreadable", f"cannot read {self.directory}: {error.strerror}") from error
        found = []
        for path in entries:
            kind = next(
                (k for k in SUFFIXES if path.name.startswith(f"{k}-") and path.suffix == SUFFIXES[k]), None
            )
            if kind is None:
                continue
            data = read(path, 2 * MAX_ANSWER)
            if path.name != name_of(kind, data):
                raise Unreadable(
                    "collateral.changed", f"{path} was changed or cut: its name has another digest; remove it"
                )
            found.append((kind, data))
        return tuple(found)

    def write(self, kind: str, data: bytes) -> Path:
        """Write a piece, whole or not at all.

        Raises:
            Unreadable: `file.unwritable`.
        """
        path = self.directory / name_of(kind, data)
        partial = path.with_name(f".{path.name}.partial")
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(data)
            os.replace(partial, path)
        except OSError as error:
            raise Unreadable("file.unwritable", f"cannot write {path}: {error.strerror}") from error
        return path
