"""`rlu model`: sign and verify a model's directory, look into it, compare two; `model_sealing` encrypts and decrypts one."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from rlu_attestation import x509
from rlu_attestation.cli.output import print_json
from rlu_attestation.encoding import b64u
from rlu_attestation.errors import RluError
from rlu_attestation.files import read
from rlu_attestation.printing import printable
from rlu_server.broker import sealed_signature
from rlu_server.broker.sealed_files import is_sealed, read_header
from rlu_server.broker.sealed_signature import SEALED_SIGNATURE
from rlu_server.cli import model_sealing
from rlu_server.models import contents, describing, manifest, release, signing, verifying
from rlu_server.models.errors import BadArgument
from rlu_server.models.manifest import Manifest, Progress
from rlu_server.models.walking import SIGNATURE, Tree, walk

app = typer.Typer(
    name="model", help="Sign, verify, inspect and compare models.", no_args_is_help=True, add_completion=False
)

Directory = Annotated[Path, typer.Argument(metavar="DIRECTORY", help="The model.")]
SignatureOption = Annotated[
    Path | None,
    typer.Option(
        "--signature",
        help=f"The signature; default: {SIGNATURE} in the directory, {SEALED_SIGNATURE} if it is encrypted.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON value on standard output.")]
MAX_PEM = 1 << 20
DIFFERENT = 10
REFUSED = 10


class Unreadable(RluError):
    """A file cannot be read or written; says nothing of the model."""

    exit_code = 3


@app.command()
def sign(
    directory: Directory,
    key: Annotated[Path, typer.Option("--key", help="Private key (PEM): P-256, P-384, P-521 or Ed25519.")],
    certificate: Annotated[
        Path | None,
        typer.Option(
            "--certificate", help="The key's certificate and those above it (PEM).", show_default=False
        ),
    ] = None,
    password_file: Annotated[
        Path | None,
        typer.Option("--password-file", help="First line: the key's password.", show_default=False),
    ] = None,
    signature: SignatureOption = None,
    number: Annotated[
        int | None,
        typer.Option(
            "--release",
            min=1,
            max=release.MOST,
            show_default=False,
            help=f"Number of this release, higher than those before, written to {release.RELEASE} and signed with the rest.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Hash every file and sign the list, in the form of OpenSSF Model Signing.

    A model that a server would refuse, with pickles or code in it, is not signed. Updates need a release number (`rlu update`). An
    encrypted model is signed once more, as it is then, to `rlu-weights.sig`: updates of it need that.

    Exit codes: 0 signed, 10 refused, 2 usage or key, 3 a file cannot be read or written.
    """
    password = (
        None if password_file is None else read(password_file, MAX_PEM).split(b"\n", 1)[0].rstrip(b"\r")
    )
    private = signing.private_key(read(key, MAX_PEM), password)
    chain = () if certificate is None else _chain(certificate)
    sealed = is_sealed(directory)
    place = _place(directory, signature, sealed)
    if sealed and number is not None:
        raise BadArgument("model.sealed", "an encrypted model has the release number that it had before")
    with reading(), bar(quiet=as_json) as progress:
        if number is not None:
            _write(directory / release.RELEASE, release.encode(number))
        tree = sealed_signature.tree_of(directory) if sealed else walk(directory)
        if not sealed:
            contents.refuse(tree.files)
        measured = manifest.digest(tree, progress)
        plain = read_header(directory).manifest if sealed else measured
        made = signing.sign(
            measured,
            tree.root.name,
            private,
            links=any(file.linked for file in tree.files),
            certificates=chain,
        )
        _write(place, made)
    _tell(
        as_json,
        _facts("signed", measured, signing.key_id(private.public_key()), place, plain),
        f"signed: {place}",
    )


@app.command()
def verify(
    directory: Directory,
    signer: Annotated[
        list[Path],
        typer.Option(
            "--signer", help="Public keys, and roots of certificates (PEM), that count; repeatable."
        ),
    ],
    signature: SignatureOption = None,
    as_json: JsonOption = False,
) -> None:
    """Verify the signature, hash every file, and hold both against each other; nothing is contacted.

    What `rlu serve` does before it loads a model, and `rlu update` with an encrypted one. Policies name the signer by the key id that is
    printed.

    Exit codes: 0 verified, 10 rejected, 20 a signature of an unknown kind, 30 malformed, 2 usage, 3 a file cannot be read.
    """
    sealed = is_sealed(directory)
    place = signature or _usual(directory, sealed)
    trusted = verifying.read_signers(signer)
    with reading(), bar(quiet=as_json) as progress:
        measured = (
            sealed_signature.verify(directory, trusted, progress, place)
            if sealed
            else verifying.measure(directory, "required", trusted, progress, place)
        )
        plain = read_header(directory).manifest if sealed else measured.manifest
    facts = _facts("verified", measured.manifest, measured.signer or b"", place, plain)
    _tell(as_json, facts, f"verified: {place} is of exactly these files")


@app.command()
def inspect(directory: Directory, as_json: JsonOption = False) -> None:
    """What a model is: files, tensors and types by their headers, licence files, and what a server would refuse. Nothing is loaded.

    Exit codes: 0 nothing would be refused, 10 something would, 2 usage, 3 a file cannot be read.
    """
    with reading():
        tree = walk(directory)
        found = describing.describe(tree)
    code = REFUSED if found.refused else 0
    signed = (directory / SIGNATURE).is_file()
    if as_json:
        print_json(
            {
                "result": "refused" if code else "ok",
                "exit_code": code,
                "files": found.files,
                "bytes": found.bytes,
                "architectures": list(found.architectures),
                "tensors": found.tensors,
                "elements": dict(found.parameters),
                "licences": list(found.licences),
                "signature": signed,
                "refused": [
                    {"path": one.path, "code": one.code, "reason": one.reason} for one in found.refused
                ],
                "malformed": list(found.malformed),
            }
        )
        raise typer.Exit(code)
    print(f"{found.files} files, {_size(found.bytes)}")
    print(f"architecture: {printable(', '.join(found.architectures)) or 'not named'}")
    types = ", ".join(f"{count:,} {dtype}" for dtype, count in found.parameters.items())
    print(f"{found.tensors} tensors; elements: {types or 'none'}")
    print(f"licence files: {printable(', '.join(found.licences)) or 'none'}")
    print(f"signature: {'there, not looked at (rlu model verify)' if signed else 'none'}")
    for text in found.malformed:
        print(f"malformed: {printable(text)}")
    for one in found.refused:
        print(f"REFUSED {printable(one.path)} {printable(one.reason)} [{one.code}]")
    raise typer.Exit(code)


@app.command()
def diff(
    first: Annotated[Path, typer.Argument(metavar="A", help="A model.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another.")],
    as_json: JsonOption = False,
) -> None:
    """What differs between two models: files, tensors by their headers (names, types, shapes), and config.json.

    Exit codes: 0 the same files, 10 they differ, 30 malformed, 2 usage, 3 a file cannot be read.
    """
    with reading(), bar(quiet=as_json) as progress:
        found = describing.compare(_digested(first, progress), _digested(second, progress))
    code = DIFFERENT if found else 0
    if as_json:
        print_json(
            {
                "result": "different" if code else "same",
                "exit_code": code,
                "files": {path: {"before": was, "after": now} for path, (was, now) in found.files.items()},
                "tensors": {
                    name: {"before": was and str(was), "after": now and str(now)}
                    for name, (was, now) in found.tensors.items()
                },
                "config": {name: {"before": was, "after": now} for name, (was, now) in found.config.items()},
            }
        )
        raise typer.Exit(code)
    for path, (size, new_size) in found.files.items():
        sizes = f"{_known(size)} -> {_known(new_size)}"
        print(f"{_kind(size, new_size)} file {printable(path)}: {sizes}")
    for name, (was, now) in found.tensors.items():
        print(f"{_kind(was, now)} tensor {printable(name)}: {was or 'none'} -> {now or 'none'}")
    for name, (was, now) in found.config.items():
        print(f"config {printable(name)}: {printable(repr(was))} -> {printable(repr(now))}")
    if not found:
        print("the same files")
    raise typer.Exit(code)


app.command("encrypt")(model_sealing.encrypt)
app.command("decrypt")(model_sealing.decrypt)


def _digested(directory: Path, progress: Progress | None) -> tuple[Tree, Manifest]:
    tree = walk(directory)
    return tree, manifest.digest(tree, progress)


def _facts(result: str, measured: Manifest, signer: bytes, place: Path, plain: Manifest) -> dict[str, Any]:
    """`plain`: of the model that is served, which statements name."""
    return {
        "result": result,
        "exit_code": 0,
        "manifest_sha256": b64u(plain.sha256),
        "signer": b64u(signer),
        "files": len(measured.files),
        "bytes": measured.size,
        "signature": str(place),
    }


def _tell(as_json: bool, facts: dict[str, Any], first: str) -> None:
    if as_json:
        print_json(facts)
        return
    print(printable(first))
    print(f"{facts['files']} files, {_size(facts['bytes'])}")
    print(f"manifest: {facts['manifest_sha256']}")
    print(f"signer:   {facts['signer']}")


def _chain(file: Path) -> tuple[x509.Certificate, ...]:
    try:
        found = tuple(x509.parse(content) for _, content in x509.pem_blocks(read(file, MAX_PEM)))
    except RluError as error:
        raise BadArgument("model.certificate", f"{file} holds something else than certificates") from error
    if not found:
        raise BadArgument("model.certificate", f"{file} holds no certificate in PEM")
    return found


def _usual(directory: Path, sealed: bool) -> Path:
    return directory / (SEALED_SIGNATURE if sealed else SIGNATURE)


def _place(directory: Path, given: Path | None, sealed: bool) -> Path:
    """Where the signature goes: not among the files that are signed."""
    usual = _usual(directory, sealed)
    if given is None or given.absolute() == usual.absolute():
        return usual
    if given.resolve().is_relative_to(directory.resolve()):
        raise BadArgument(
            "model.signature.place",
            f"the signature is {usual.name} at the top of the directory, or outside it",
        )
    return given


def _write(place: Path, data: bytes) -> None:
    """Whole or not at all, so that an interrupted run leaves what was there."""
    new = place.with_name(f".{place.name}.new")
    try:
        new.write_bytes(data)
        new.chmod(0o644)
        os.replace(new, place)
    except OSError:
        new.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def reading() -> Iterator[None]:
    """Files that cannot be read or written end the command by exit code 3."""
    try:
        yield
    except OSError as error:
        raise Unreadable("model.unreadable", f"{error.filename}: {error.strerror}") from error


@contextlib.contextmanager
def bar(*, quiet: bool, title: str = "hashing") -> Iterator[Progress | None]:
    """A bar on a terminal, nothing elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(title)
        yield lambda done, total: shown.update(task, completed=done, total=total)


def _kind(was: object, now: object) -> str:
    return "added" if was is None else "removed" if now is None else "changed"


def _known(size: int | None) -> str:
    return "none" if size is None else f"{size} bytes"


def _size(count: int) -> str:
    return f"{count:,} bytes"
