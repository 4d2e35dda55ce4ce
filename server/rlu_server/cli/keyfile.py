"""The API key file on disk: read it, or change it whole.

Every change is made under a lock, checked by the very parser the gateway uses, and put in place by a rename, so that the gateway
never sees half a file.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rlu_attestation.encoding import b64u
from rlu_server.core.apikeys import KeyFile, parse_file


def read_keys(path: Path) -> KeyFile | None:
    """The key file, or None when there is none yet."""
    try:
        return parse_file(path.read_bytes())
    except FileNotFoundError:
        return None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other `rlu apikeys` commands out. The lock is a file of its own, since a rename replaces the other one."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write(path: Path, file: KeyFile) -> None:
    """Replace the file at once, readable by its owner only, and on the disk before this returns.

    An existing file keeps its owner: the gateway may run as another user than the one who manages keys.
    """
    data = file.to_json()
    parse_file(data)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
    )
    try:
        with os.fdopen(descriptor, "wb") as out:
            _keep_owner(path, out.fileno())
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _keep_owner(path: Path, descriptor: int) -> None:
    try:
        existing = path.stat()
    except FileNotFoundError:
        return
    if os.geteuid() == 0:
        os.fchown(descriptor, existing.st_uid, existing.st_gid)


def change(path: Path, edit: Callable[[KeyFile], KeyFile]) -> None:
    """Apply `edit` to the file, which is made when it does not exist."""
    with _locked(path):
        _write(path, edit(read_keys(path) or KeyFile(pseudonym_key=b64u(secrets.token_bytes(32)))))
