"""Roots that whoever verifies puts into a directory; reads the disk through `files`."""

from __future__ import annotations

from pathlib import Path

from rlu_attestation import x509
from rlu_attestation.errors import RluError
from rlu_attestation.files import Unreadable, read
from rlu_attestation.policy import PolicyError
from rlu_attestation.policy_sources import KINDS, OperatorRoot
from rlu_attestation.x509 import MAX_PEM

_ROOT_FILES = (".pem", ".der", ".crt", ".cer")


def load_roots(directory: Path) -> tuple[OperatorRoot, ...]:
    """Read roots that the operator adds: `<kind>.pem`, `<kind>.der`, and every such file in `<kind>/`; kinds are `policy_sources.KINDS`.

    Raises:
        Unreadable: `file.unreadable`.
        PolicyError: `roots.kind` for a name that is no kind, `roots.certificate`, `roots.empty`.
    """
    found: list[OperatorRoot] = []
    for entry in _entries(directory):
        kind = entry.name if entry.is_dir() else entry.stem
        if kind not in KINDS or not (entry.is_dir() or entry.suffix in _ROOT_FILES):
            raise PolicyError(
                "roots.kind", f"{entry}: roots are files or directories called {', '.join(KINDS)}"
            )
        for file in _entries(entry) if entry.is_dir() else [entry]:
            if file.suffix not in _ROOT_FILES:
                raise PolicyError("roots.kind", f"{file}: roots are {' or '.join(_ROOT_FILES)} files")
            try:
                certificates = x509.parse_many(read(file, MAX_PEM))
            except RluError as error:
                raise PolicyError("roots.certificate", f"{file}: {error.message}") from error
            found += [OperatorRoot(kind, certificate, str(file)) for certificate in certificates]
    if not found:
        raise PolicyError("roots.empty", f"{directory} holds no roots")
    return tuple(found)


def _entries(directory: Path) -> list[Path]:
    """What a directory holds, by name, but for hidden files."""
    try:
        return sorted(entry for entry in directory.iterdir() if not entry.name.startswith("."))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        raise Unreadable("file.unreadable", f"cannot read {directory}: {reason}") from error
