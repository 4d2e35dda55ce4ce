"""From a directory, a setting and trusted signers to what may be served, and how that is told.

    required          a valid signature by a trusted signer over exactly these files, or it refuses
    unsafe-optional   a model without one is served too; the statement then says `unsigned`, or `failed` where there is one that is not good

`Unchanged` holds the files against their stamps: before an engine starts, and again once it has loaded. Equal stamps mean that between
hashing and the end of loading nobody wrote, replaced, added or renamed below the model's directory; with the lock, which shows the engine
this one directory read-only, what it opened is then what was hashed. Not covered: a directory above it swapped away and back meanwhile, and
a file system or clock that lies about changes (a network file system's server can, and root through the raw device).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rlu_attestation.errors import RluError
from rlu_attestation.files import read
from rlu_server.models import contents, signing
from rlu_server.models.errors import BadArgument, ManifestError, SignatureRefused
from rlu_server.models.manifest import Manifest, Progress, digest
from rlu_server.models.signing import Signed, Signers
from rlu_server.models.walking import SIGNATURE, Tree, walk

MAX_SIGNERS = 1 << 20
Need = Literal["required", "unsafe-optional"]
Result = Literal["verified", "unsigned", "failed"]


@dataclass(frozen=True, slots=True)
class Measured:
    """A model that may be served."""

    tree: Tree
    manifest: Manifest
    result: Result
    signer: bytes | None
    """Key id of the signer, where `result` is `verified`."""
    failure: str = ""
    """Code of what is wrong with its signature, where `result` is `failed`."""


def read_signers(files: Iterable[Path]) -> Signers:
    """Raises BadArgument (`model.signers`)."""
    return signing.signers((str(file), _content(file)) for file in files)


def measure(
    directory: Path,
    need: Need,
    trusted: Signers,
    progress: Progress | None = None,
    signature: Path | None = None,
    known: Manifest | None = None,
) -> Measured:
    """Walk, refuse what may not be there, verify the signature, hash, compare.

    Args:
        signature: where it is, if not `model.sig` in the directory.
        known: the manifest, of files that were hashed as they were written, by us and where nobody else writes; they are not read again.

    Raises:
        ManifestError: of `walk`, `contents.refuse`, `digest`.
        SignatureRefused: `model.signature.absent`, `.mismatch`; and what `signing.verify` and `read` raise. Only where it is required.
        OSError: a file cannot be read.
    """
    tree = walk(directory)
    contents.refuse(tree.files)
    signed: Signed | None = None
    failure: RluError | None = None
    try:
        signed = _signed(signature or directory / SIGNATURE, trusted)
    except RluError as error:
        failure = error
    if failure is not None and need == "required":
        raise failure
    manifest = digest(tree, progress) if known is None else _held_against(tree, known)
    if signed is not None:
        try:
            signing.compare(signed, manifest)
            return Measured(tree, manifest, "verified", signed.signer)
        except SignatureRefused as error:
            if need == "required":
                raise
            failure = error
    code = "" if failure is None else failure.code
    absent = code == "model.signature.absent"
    return Measured(tree, manifest, "unsigned" if absent else "failed", None, failure="" if absent else code)


def _held_against(tree: Tree, known: Manifest) -> Manifest:
    if [(one.path, one.size) for one in tree.files] != [(one.path, one.size) for one in known.files]:
        raise ManifestError("model.changed", "the files are not those that were written; start again")
    return known


class Unchanged:
    """Watches the files of one model from hashing on."""

    def __init__(self, measured: Measured) -> None:
        self._tree = measured.tree
        self._manifest = measured.manifest

    def before_start(self, progress: Progress | None = None) -> None:
        """Files whose stamps changed since are hashed anew. Raises ManifestError (`model.changed`), OSError."""
        tree = walk(self._tree.root)
        if tree == self._tree:
            return
        contents.refuse(tree.files)
        if digest(tree, progress) != self._manifest:
            raise ManifestError(
                "model.changed", "the model's files are not those that were measured; restart the server"
            )
        self._tree = tree

    def after_loading(self) -> None:
        """Raises ManifestError (`model.changed_while_loading`), OSError."""
        tree = walk(self._tree.root)
        if tree != self._tree:
            changed = sorted(
                path or "the directory itself"
                for path in {*tree.stamps, *self._tree.stamps}
                if tree.stamps.get(path) != self._tree.stamps.get(path)
            )
            raise ManifestError(
                "model.changed_while_loading",
                f"something wrote to the model while the engine loaded it ({changed[0]}); stop that and start again",
            )


def _signed(place: Path, trusted: Signers) -> Signed:
    if not place.exists():
        raise SignatureRefused(
            "model.signature.absent",
            f"the model is not signed: there is no {place}. Sign it (`rlu model sign`) or ask its vendor to",
        )
    return signing.verify(read(place, signing.MAX_SIGNATURE), trusted)


def _content(file: Path) -> bytes:
    try:
        return read(file, MAX_SIGNERS)
    except RluError as error:
        raise BadArgument("model.signers", error.message) from error
