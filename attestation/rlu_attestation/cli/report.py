"""How `rlu verify` says what it found: text for people, JSON, or an EAR, signed or not."""

from __future__ import annotations

import enum
import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from rlu_attestation.bundle import Bundle
from rlu_attestation.cli.output import console, print_json
from rlu_attestation.cli.policies import Chosen
from rlu_attestation.files import read
from rlu_attestation.verdict import Verdict


class Format(str, enum.Enum):
    TEXT = "text"
    JSON = "json"
    EAR = "ear"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What was verified, and how.

    Attributes:
        kind: of evidence that stood alone; empty for a bundle.
        assumed: the kind was recognised, not named.
        data: what was verified.
        unused: of what was given beside the evidence.
    """

    verdict: Verdict
    target: str
    chosen: Chosen
    data: bytes
    kind: str = ""
    assumed: bool = False
    unused: tuple[str, ...] = ()
    bundle: Bundle | None = None

    def notes(self) -> Iterator[str]:
        """What the reader must know beside the verdict."""
        if self.assumed:
            yield f"Taken for evidence of kind {self.kind}: say so by --kind {self.kind}, so that nothing else is ever taken for it."
        for root in self.chosen.roots:
            yield (
                f"Root supplied by the operator, trusted because of --roots: {root.kind} "
                f"{root.certificate.fingerprint.hex()} ({root.file})."
            )
        if self.unused:
            what = f"evidence of kind {self.kind}" if self.kind else "a bundle"
            yield f"Not used, because {what} has no place for it: {', '.join(self.unused)}."
        if self.chosen.from_bundle:
            yield "The policy is the bundle's own, with the digest that you gave."
        elif not self.verdict.policy and self.bundle is not None and self.bundle.policy is not None:
            from rlu_attestation.policy_file import digest_of

            own = digest_of(self.bundle.policy.toml, dict(self.bundle.policy.files)).hex()
            yield (
                "The bundle holds the policy that its maker used. Read it (rlu inspect), and if it is what you want: "
                f"--bundled-policy {own}"
            )

    def to_json(self) -> dict[str, Any]:
        """The verdict, with what the command line adds to it."""
        value = self.verdict.to_json()
        if self.kind:
            value |= {"kind": self.kind, "kind_assumed": self.assumed}
        if self.chosen.roots:
            value["operator_roots"] = [root.to_json() for root in self.chosen.roots]
        if self.unused:
            value["unused"] = list(self.unused)
        return value


def report(found: Found, form: Format, *, quiet: bool, ear_key: Path | None) -> None:
    """Print it."""
    if quiet:
        return
    if form is Format.JSON:
        print_json(found.to_json())
    elif form is Format.EAR:
        _ear(found, ear_key)
    else:
        from rlu_attestation.render import show

        show(found.verdict, console(), found.target, found.notes())


def _ear(found: Found, key_file: Path | None) -> None:
    from rlu_attestation import ear

    roots = sorted(root.certificate.fingerprint for root in found.chosen.roots)
    claims = ear.ear(
        found.verdict,
        subject=hashlib.sha256(found.data).digest(),
        issued=int(time.time()),
        build=build(),
        kind=found.kind,
        policies=[f"urn:rlu:roots:sha256:{hashlib.sha256(b''.join(roots)).hexdigest()}"] if roots else (),
    )
    if key_file is None:
        print_json(claims)
        return
    from cryptography.hazmat.primitives.asymmetric import ec

    from rlu_attestation import policy_signature

    key = policy_signature.load_private_key(read(key_file, policy_signature.MAX_KEY))
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise typer.BadParameter("--ear-key must be a key on P-256: an EAR is signed by ES256")
    print(ear.sign(claims, key))


def build() -> str:
    """This verifier, for `ear_verifier_id`."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"rlu {version('rlu')}"
    except PackageNotFoundError:
        return "rlu, not installed"
