"""What was fetched, laid out as the attestor reads it (`[attestation] collateral_dir`): a directory for each kind of evidence.

    <directory>/<kind>/<kind of piece>-<digest>.<suffix>    as in the store
    <directory>/tdx/collateral.json                         Intel's, by the one name that its collector looks for

Pieces of earlier fetches go when all of a kind are there anew, since an attestor staples whatever fits. Files of other names are somebody
else's, and stay. Each file appears whole: an attestor may read meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from rlu_attestation.collateral.http import MAX_ANSWER
from rlu_attestation.collateral.run import Fetched
from rlu_attestation.collateral.store import SUFFIXES
from rlu_attestation.files import Unreadable, read

STAPLING = ("azure-vtpm", "gcp-vtpm", "nitro", "nitrotpm", "nvidia", "sev-snp", "tdx")
"""Kinds of evidence that an attestor staples collateral to."""
INTEL, INTEL_FILE = "tdx-collateral", "collateral.json"


def lay_out(results: Iterable[Fetched], store: Path, directory: Path) -> tuple[Path, ...]:
    """Write the pieces of a fetch below `directory`; the files that are there now, of the kinds that were fetched.

    Raises:
        Unreadable: `file.unreadable`, `file.unwritable`.
    """
    by_kind: dict[str, list[Fetched]] = {}
    for result in results:
        if result.evidence in STAPLING:
            by_kind.setdefault(result.evidence, []).append(result)
    return tuple(
        path for kind, of_kind in by_kind.items() for path in _fill(of_kind, store, directory / kind)
    )


def _fill(results: list[Fetched], store: Path, place: Path) -> list[Path]:
    wanted = {
        INTEL_FILE if result.kind == INTEL else result.file: result.file
        for result in results
        if result.failure is None
    }
    try:
        place.mkdir(parents=True, exist_ok=True)
        for name, file in wanted.items():
            partial = place / f".{name}.partial"
            partial.write_bytes(read(store / file, 2 * MAX_ANSWER))
            os.replace(partial, place / name)
        if all(result.failure is None for result in results):
            for path in place.iterdir():
                if _ours(path.name) and path.name not in wanted:
                    path.unlink()
    except OSError as error:
        raise Unreadable("file.unwritable", f"cannot write below {place}: {error.strerror}") from error
    return [place / name for name in wanted]


def _ours(name: str) -> bool:
    return any(name.startswith(f"{kind}-") and name.endswith(suffix) for kind, suffix in SUFFIXES.items())
