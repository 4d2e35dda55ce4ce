"""Bundles, policies and certificates from files: the one place where the verifier reads and writes a disk."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from rlu_attestation import bundle, policy_file
from rlu_attestation.bundle import Bundle, BundledPolicy
from rlu_attestation.errors import RluError
from rlu_attestation.policy import Policy, PolicyError
from rlu_attestation.x509 import MAX_PEM


class Unreadable(RluError):
    """A file named on the command line could not be read or written."""

    exit_code = 2


def load_bundle(path: Path) -> Bundle:
    """Read a bundle.

    Raises:
        Unreadable: `file.unreadable`.
        Malformed: `bundle.encoding`.
    """
    return bundle.parse(read(path, bundle.MAX_BUNDLE))


def load_policy(path: Path) -> Policy:
    """Read a policy; files that it names are looked up beside it.

    Raises:
        Unreadable: `file.unreadable`.
        PolicyError: `policy.…`.
    """
    return load_policy_parts(path)[0]


def load_policy_parts(path: Path) -> tuple[Policy, BundledPolicy]:
    """A policy, and the bytes it was read from, its own and those of every file that it names.

    Raises:
        Unreadable: `file.unreadable`.
        PolicyError: `policy.…`.
    """
    files: dict[str, bytes] = {}

    def read_file(name: str) -> bytes:
        try:
            files[name] = read(path.parent / name, MAX_PEM)
        except Unreadable as error:
            raise PolicyError("policy.certificate", error.message) from error
        return files[name]

    data = read(path, policy_file.MAX_POLICY)
    policy = policy_file.parse(data, read_file)
    return policy, BundledPolicy(data, tuple(sorted(files.items())))


def read(path: Path, most: int) -> bytes:
    """A file's bytes, one more than `most` at the most, so that whoever parses them sees that they are too many.

    Raises:
        Unreadable: `file.unreadable`.
    """
    try:
        with path.open("rb") as stream:
            return stream.read(most + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        raise Unreadable("file.unreadable", f"cannot read {path}: {reason}") from error


def write_new(path: Path, data: bytes, *, private: bool = False) -> None:
    """Write a file that is not there yet; with `private`, for its owner only.

    Raises:
        Unreadable: `file.exists`, `file.unwritable`.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o644)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
    except FileExistsError as error:
        raise Unreadable("file.exists", f"{path} is there already: name another, or remove it") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        raise Unreadable("file.unwritable", f"cannot write {path}: {reason}") from error


def write_private(path: Path, data: bytes) -> None:
    """Write a file for its owner only: a bundle may hold a session's contents and its commitment key.

    Raises:
        Unreadable: `file.unwritable`.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe, or a terminal
            path.write_bytes(data)
            return
        _replace(path.resolve(), data)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        raise Unreadable("file.unwritable", f"cannot write {path}: {reason}") from error


def _replace(path: Path, data: bytes) -> None:
    """As a whole: what was there stays until all of it is written. Its owner stays, too."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:64]}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            if os.geteuid() == 0 and path.exists():
                os.fchown(handle, path.stat().st_uid, path.stat().st_gid)
            stream.write(data)
            stream.flush()
            os.fsync(handle)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
