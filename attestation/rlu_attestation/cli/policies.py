"""Which policy `rlu verify` appraises by: a file, pinned or signed or neither, or the one inside the bundle; and roots beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import typer

from rlu_attestation.bundle import BundledPolicy
from rlu_attestation.files import load_policy, read
from rlu_attestation.policy import Policy
from rlu_attestation.policy_sources import OperatorRoot, check_digest, read_bundled, with_roots
from rlu_attestation.root_files import load_roots

DIGEST_SIZE = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What the command line says about the policy.

    Attributes:
        file: `--policy`.
        digest: `--policy-sha256`.
        key: `--policy-key`.
        bundled: `--bundled-policy`.
        roots: `--roots`.
    """

    file: Path | None = None
    digest: str | None = None
    key: Path | None = None
    bundled: str | None = None
    roots: Path | None = None

    def check(self) -> None:
        """Refuse what cannot be meant. Raises typer.BadParameter."""
        if self.file is None and (self.digest is not None or self.key is not None):
            raise typer.BadParameter("--policy-sha256 and --policy-key are about the file of --policy")
        if self.file is not None and self.bundled is not None:
            raise typer.BadParameter("--policy and --bundled-policy are two policies: one decides")

    def load(self, bundled: BundledPolicy | None = None) -> Chosen:
        """Read the policy, held against what pins it; without any, the empty one, which accepts nothing.

        Raises:
            RluError: what cannot be read, parsed, or is another than what is pinned.
        """
        roots = () if self.roots is None else load_roots(self.roots)
        if self.bundled is not None:
            policy = read_bundled(bundled, digest("--bundled-policy", self.bundled))
        elif self.file is None:
            policy = Policy()
        else:
            policy = self._file(self.file)
        return Chosen(with_roots(policy, roots), roots, self.bundled is not None)

    def _file(self, file: Path) -> Policy:
        policy = load_policy(file)
        if self.digest is not None:
            check_digest(policy, digest("--policy-sha256", self.digest))
        if self.key is not None:
            from rlu_attestation import policy_signature as signatures

            key = signatures.load_public_key(read(self.key, signatures.MAX_KEY))
            signature = read(file.with_name(f"{file.name}.sig"), signatures.MAX_SIGNATURE)
            signatures.verify_signature(policy.digest, signature, key)
        return policy


@dataclass(frozen=True, slots=True)
class Chosen:
    """The policy, with the operator's roots in it, and those roots for whoever reads the verdict."""

    policy: Policy
    roots: tuple[OperatorRoot, ...]
    from_bundle: bool = False


def digest(option: str, text: str) -> bytes:
    """A SHA-256 digest in hexadecimal. Raises typer.BadParameter."""
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) != DIGEST_SIZE or found.hex() != text.lower():
        raise typer.BadParameter(f"{option} must be a SHA-256 digest, 64 characters of hexadecimal")
    return found
