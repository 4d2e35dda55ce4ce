"""What `rlu verify` is asked for, done: a server, a bundle, or bare evidence."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from rlu_attestation import bundle as bundles
from rlu_attestation.bundle import Bundle
from rlu_attestation.cli.policies import Choice
from rlu_attestation.cli.report import Found
from rlu_attestation.errors import RluError, Unsupported
from rlu_attestation.files import read
from rlu_attestation.policy import Policy
from rlu_attestation.verdict import Result, Verdict
from rlu_attestation.verifier import Context, verify

if TYPE_CHECKING:
    from rlu_attestation.assemble import Pieces

NONCE_SIZE = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the command line asks for."""

    target: str
    choice: Choice
    at: int | None
    nonce: bytes | None
    insecure: bool
    kind: str | None
    beside: tuple[Path, ...]
    expected: bytes | None

    def server(self, key: str | None, probe: str | None) -> Found:
        """Ask a server."""
        if self.kind is not None or self.beside or self.expected is not None:
            raise typer.BadParameter("--kind, --with and --report-data are for files, not for a server")
        if self.choice.bundled is not None:
            raise typer.BadParameter("--bundled-policy is for a bundle; a server is verified by --policy")
        if probe is not None and key is None:
            raise typer.BadParameter("--probe needs an API key: --api-key-file or RLU_API_KEY")
        chosen = self.choice.load()
        bundle, verdict = _Online(self.target, chosen.policy, self.at, self.nonce, self.insecure).run(
            key, probe
        )
        return Found(verdict=verdict, target=self.target, chosen=chosen, data=bundle.encode(), bundle=bundle)

    def file(self) -> Found:
        """Verify a file, which is a bundle unless it says otherwise.

        Raises:
            Unsupported: `verify.unknown`, `verify.kind`.
            RluError: what cannot be read, or is broken.
        """
        data = read(Path(self.target), bundles.MAX_BUNDLE)
        if self.kind is None and _is_bundle(data):
            return self._bundle(data)
        if self.kind is None and data.startswith(b"ey"):  # as every JWS does
            from rlu_attestation.boundary.report import is_report

            if is_report(data):
                raise typer.BadParameter(
                    "a boundary report is verified by the key that signs it: --report-key KEY"
                )
        return self._evidence(data)

    def _bundle(self, data: bytes) -> Found:
        if self.expected is not None:
            raise typer.BadParameter(
                "--report-data is for bare evidence; a bundle says itself what it is about"
            )
        bundle = bundles.parse(data)
        unused: tuple[str, ...] = ()
        if self.beside:
            pieces = _pieces(self.beside)
            unused = pieces.unused(takes=_takes(bundle))
            bundle = replace(bundle, collateral=(*bundle.collateral, *pieces.collateral))
        chosen = self.choice.load(bundle.policy)
        context = Context(
            bundle=bundle,
            policy=chosen.policy,
            at=self._now,
            nonce=self.nonce,
            insecure_accept_software_key=self.insecure,
        )
        return Found(
            verdict=verify(context),
            target=self.target,
            chosen=chosen,
            data=data,
            bundle=bundle,
            unused=unused,
        )

    def _evidence(self, data: bytes) -> Found:
        from rlu_attestation.assemble import FORMS, assemble, recognise
        from rlu_attestation.verifier.alone import EvidenceContext, verify_evidence

        kind = recognise(data) if self.kind is None else self.kind
        if kind is None:
            raise Unsupported(
                "verify.unknown",
                f"{self.target} is no bundle, and no evidence that is recognised: name its kind by --kind "
                f"({', '.join(FORMS)}), or see what it is by `rlu inspect`",
            )
        if kind not in FORMS:
            raise Unsupported(
                "verify.kind", f"there is no kind of evidence called {kind}; kinds: {', '.join(FORMS)}"
            )
        self._check_evidence()
        chosen = self.choice.load()
        assembled = assemble(kind, data, _pieces(self.beside))
        context = EvidenceContext(
            kind=kind,
            evidence=assembled.evidence,
            policy=chosen.policy,
            at=self._now,
            expected=self.expected,
            collateral=assembled.collateral,
        )
        return Found(
            verdict=verify_evidence(context),
            target=self.target,
            chosen=chosen,
            data=data,
            kind=kind,
            assumed=self.kind is None,
            unused=assembled.unused,
        )

    def _check_evidence(self) -> None:
        if self.nonce is not None:
            raise typer.BadParameter(
                "--nonce is for a server or a bundle: of bare evidence pass --report-data"
            )
        if self.choice.bundled is not None:
            raise typer.BadParameter("--bundled-policy is for a bundle, and bare evidence is none")

    @property
    def _now(self) -> int:
        return int(time.time()) if self.at is None else self.at


class _Online:
    """Verification of a running server."""

    def __init__(self, url: str, policy: Policy, at: int | None, nonce: bytes | None, insecure: bool) -> None:
        # Imported here: a file is verified without any of the network's modules.
        from rlu_attestation.client import Client

        self._client = Client(url)
        self._policy = policy
        self._at = at
        self._nonce = secrets.token_bytes(NONCE_SIZE) if nonce is None else nonce
        self._insecure = insecure

    def run(self, api_key: str | None, probe: str | None) -> tuple[Bundle, Verdict]:
        with self._client as client:
            bundle = client.attestation(self._nonce)
            verdict = self._verify(bundle)
            # Nothing secret, not even the key, is sent to a server that was not accepted.
            if api_key is None or verdict.result not in (Result.VERIFIED, Result.WAIVED):
                return bundle, verdict
            bundle = client.session(bundle, self._nonce, api_key, probe)
            return bundle, self._verify(bundle)

    def _verify(self, bundle: Bundle) -> Verdict:
        return verify(
            Context(
                bundle=bundle,
                policy=self._policy,
                at=int(time.time()) if self._at is None else self._at,
                nonce=self._nonce,
                channel=self._client.spki_sha256,
                plaintext=self._client.plaintext,
                insecure_accept_software_key=self._insecure,
            )
        )


def _is_bundle(data: bytes) -> bool:
    """Whether a file means to be a bundle, well-formed or not."""
    return data.lstrip()[:1] == b"{" and b'"rlu_bundle"' in data


def _takes(bundle: Bundle) -> frozenset[str]:
    """Kinds of collateral that the steps of the bundle's evidence look at."""
    from rlu_attestation.assemble.forms import COLLATERAL_OF

    return frozenset(kind for item in bundle.evidence for kind in COLLATERAL_OF.get(item.kind, ()))


def _pieces(files: tuple[Path, ...]) -> Pieces:
    """What the files beside evidence hold.

    Raises:
        RluError: one cannot be read, or is nothing that is known; the message names it.
    """
    from rlu_attestation.assemble import join, read_piece
    from rlu_attestation.assemble.pieces import MAX_PIECE

    found = []
    for file in files:
        data = read(file, MAX_PIECE)
        try:
            found.append(read_piece(data))
        except RluError as error:
            raise type(error)(error.code, f"{file}: {error.message}") from error
    return join(found)
