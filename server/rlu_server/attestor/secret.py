"""The attestor's secret: 32 random bytes in a file only its UID can read, from which its TPM keys' authorisation values follow,
and the blinds of receipts.

What it protects: another user, container or pod that reaches the same TPM cannot sign with the instance key or quote with the AK, even
with copies of the wrapped key files, because both keys want a value derived from this secret. What it does not protect against: root on
the host, or whoever reads the attestor's state directory *and* reaches this very TPM in the same platform state. The key itself never
leaves the TPM either way.
"""

from __future__ import annotations

import hmac
import os
import secrets
import stat
from pathlib import Path

from rlu_server.attestor.errors import NotReady

SECRET_SIZE = 32


def load_or_create(path: Path) -> bytes:
    """The secret; made, with mode 0600, when the file is absent.

    Raises:
        NotReady: wrong size, or others could read it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return _create(path)
    except OSError as error:
        raise NotReady("secret.unreadable", f"{path}: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as file:
        if os.fstat(file.fileno()).st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise NotReady("secret.permissions", f"{path} may be accessible to its owner only: chmod 600 it")
        secret = file.read(SECRET_SIZE + 1)
    if len(secret) != SECRET_SIZE:
        raise NotReady("secret.size", f"{path} must hold {SECRET_SIZE} bytes")
    return secret


def authorisation(secret: bytes, purpose: str) -> bytes:
    """The authorisation value of a TPM key (`instance-key`, `ak`)."""
    value = hmac.digest(secret, b"rlu/tpm-auth/v1\0" + purpose.encode("ascii"), "sha256")
    # The TPM drops trailing zeros of an authorisation value, and so must whoever computes with it.
    return value.rstrip(b"\0")


def blind_key(secret: bytes) -> bytes:
    """The key from which the blinds of receipts follow (`ledger.py`)."""
    return hmac.digest(secret, b"rlu/receipt-blind/v1\0", "sha256")


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only the owner can read, all of it or nothing, on the disk before this returns."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make a rename or a new file in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _create(path: Path) -> bytes:
    secret = secrets.token_bytes(SECRET_SIZE)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(path, secret)
    return secret
