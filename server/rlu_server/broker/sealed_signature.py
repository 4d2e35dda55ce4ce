"""A signature over a sealed model as it lies there, for whoever has no key: `rlu-weights.sig`, in the form of `model.sig`.

`model.sig` signs the plain files, which only a server that was given the key can compare. This one signs every file of the sealed
directory, `model.sig` and `rlu-weights.json` among them, so that an update is verified before anything is switched to it.
"""

from __future__ import annotations

from pathlib import Path

from rlu_attestation.files import read
from rlu_server.broker.errors import SealBroken
from rlu_server.broker.sealed_files import read_header
from rlu_server.broker.sealing import ENDING, HEADER
from rlu_server.models import manifest, signing
from rlu_server.models.errors import SignatureRefused
from rlu_server.models.manifest import Manifest, Progress
from rlu_server.models.release import RELEASE
from rlu_server.models.signing import Signed, Signers
from rlu_server.models.verifying import Measured
from rlu_server.models.walking import SIGNATURE, Tree, walk

SEALED_SIGNATURE = "rlu-weights.sig"


def tree_of(sealed: Path) -> Tree:
    """What is signed: everything but the signature itself. Raises as `walk`."""
    return walk(sealed, SEALED_SIGNATURE)


def verify(
    sealed: Path, trusted: Signers, progress: Progress | None = None, signature: Path | None = None
) -> Measured:
    """Hold every file against the signature, and the header against the plain model's.

    Args:
        signature: where it is, if not in the directory.

    Raises:
        SignatureRefused: `model.signature.absent`, `.mismatch`; and what `signing.verify` raises, for either signature.
        SealBroken: `weights.missing`: the header names a file that is not there, or one more is.
        BadHeader: `weights.header`.
        ManifestError, OSError: as `walk`.
    """
    place = signature or sealed / SEALED_SIGNATURE
    if not place.is_file():
        raise SignatureRefused(
            "model.signature.absent",
            f"the encrypted model is not signed: there is no {place}. Sign it (`rlu model sign`) or ask its vendor to",
        )
    signed = signing.verify(read(place, signing.MAX_SIGNATURE), trusted)
    tree = tree_of(sealed)
    measured = manifest.digest(tree, progress)
    signing.compare(signed, measured)
    plain = read_header(sealed).manifest
    _complete(plain, {one.path for one in measured.files})
    signing.compare(_of_plain(sealed, trusted), plain)
    return Measured(tree, measured, "verified", signed.signer)


def _of_plain(sealed: Path, trusted: Signers) -> Signed:
    place = sealed / SIGNATURE
    if not place.is_file():
        raise SignatureRefused(
            "model.signature.absent",
            f"the model was not signed before it was encrypted: there is no {place}; ask its vendor",
        )
    return signing.verify(read(place, signing.MAX_SIGNATURE), trusted)


def _complete(plain: Manifest, there: set[str]) -> None:
    named = {f"{one.path}{ENDING}" for one in plain.files} | {HEADER, SIGNATURE}
    wrong = sorted((named ^ there) - {RELEASE})
    if wrong:
        raise SealBroken(
            "weights.missing", f"{wrong[0]} is missing, or is not of the encrypted model; ask its vendor"
        )
