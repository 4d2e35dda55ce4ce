"""`rlu model encrypt` and `rlu model decrypt`: the vendor's side of sealed models."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path
from typing import Annotated

import typer

from rlu_attestation.cli.output import print_json
from rlu_attestation.encoding import b64u
from rlu_attestation.printing import printable
from rlu_server.broker import sealed_files
from rlu_server.broker.errors import Misused
from rlu_server.broker.sealing import KEY_SIZE, SALT_SIZE
from rlu_server.broker.vault import ModelKey, Vault
from rlu_server.models import manifest
from rlu_server.models.manifest import Manifest, Progress

VaultOption = Annotated[
    Path, typer.Option("--vault", help="Directory of model keys, mode 0700; made if it is not there.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON value on standard output.")]


def encrypt(
    directory: Annotated[Path, typer.Argument(metavar="DIRECTORY", help="The model, best signed before.")],
    sealed: Annotated[Path, typer.Argument(metavar="SEALED", help="Directory to make.")],
    vault: VaultOption,
    name: Annotated[
        str, typer.Option("--name", help="The key's name, for people; default: DIRECTORY's.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Encrypt a model under a new key, which a key broker (`rlu broker`) releases to attested hardware only.

    Exit codes: 0 encrypted, 10 the model is refused (pickles, code, or it changed), 2 usage or vault, 3 a file cannot be read or written.
    """
    from rlu_server.cli.model import bar, reading

    with reading(), bar(quiet=as_json, title="encrypting") as progress:
        key = seal_new(directory, sealed, vault, name, progress)
    if as_json:
        print_json(
            {
                "result": "encrypted",
                "exit_code": 0,
                "kid": b64u(key.kid),
                "manifest_sha256": b64u(key.manifest),
                "sealed": str(sealed),
            }
        )
        return
    print(
        f"encrypted: {printable(str(sealed))} tells the names, sizes and digests of files, and nothing else"
    )
    print(f"key:       {printable(str(vault))}/{b64u(key.kid)}.json (there is no other copy)")
    print(f"manifest:  {b64u(key.manifest)}")


def decrypt(
    sealed: Annotated[Path, typer.Argument(metavar="SEALED", help="The encrypted model.")],
    directory: Annotated[Path, typer.Argument(metavar="DIRECTORY", help="Directory to make.")],
    vault: VaultOption,
    as_json: JsonOption = False,
) -> None:
    """Decrypt a model, with the key itself: the vendor's own use. Servers get the key from a broker, and write nothing to a disk.

    Exit codes: 0 decrypted, 10 altered, cut off or of another key, 30 malformed, 2 usage or vault, 3 a file cannot be read or written.
    """
    from rlu_server.cli.model import bar, reading

    with reading(), bar(quiet=as_json, title="decrypting") as progress:
        found = open_sealed(sealed, directory, vault, progress)
    facts = {
        "result": "decrypted",
        "exit_code": 0,
        "manifest_sha256": b64u(found.sha256),
        "bytes": found.size,
    }
    if as_json:
        print_json({**facts, "directory": str(directory)})
        return
    print(f"decrypted: {printable(str(directory))}, {len(found.files)} files, {found.size:,} bytes")
    print(f"manifest:  {b64u(found.sha256)}")


def seal_new(directory: Path, sealed: Path, vault: Path, name: str, progress: Progress | None) -> ModelKey:
    """Seal a model under a new key, which is in the vault before anything needs it.

    Raises:
        RluError, OSError: as `sealed_files.seal`, `Vault.add`; the key of what was not sealed is taken away again.
    """
    measured = manifest.measure(directory)
    key = ModelKey(secrets.token_bytes(KEY_SIZE), measured.sha256, name or directory.resolve().name)
    place = Vault(vault).add(key)
    try:
        header = sealed_files.seal(directory, sealed, key.key, secrets.token_bytes(SALT_SIZE), progress)
        if header.manifest != measured:
            shutil.rmtree(sealed)
            raise Misused("weights.changed", f"{directory} changed while it was sealed; try again")
    except BaseException:
        place.unlink()
        raise
    return key


def open_sealed(sealed: Path, directory: Path, vault: Path, progress: Progress | None) -> Manifest:
    """Open a sealed model into a new directory.

    Raises:
        Misused: `weights.target`: it is there already. And as `Vault.key`, `sealed_files.unseal`.
    """
    if directory.exists():
        raise Misused("weights.target", f"{directory} is there already; name a directory that is not")
    key = Vault(vault).key(sealed_files.read_header(sealed).kid)
    partial = directory.with_name(f".{directory.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        found = sealed_files.unseal(sealed, partial, key.key, progress)
        partial.rename(directory)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return found
