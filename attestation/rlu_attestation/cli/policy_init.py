"""`rlu policy init`: a draft from evidence, written beside its reference values, and what is said of it."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from rlu_attestation import policy_draft
from rlu_attestation.cli.arguments import JsonOption, is_url, moment
from rlu_attestation.cli.arguments import nonce as read_nonce
from rlu_attestation.cli.looking import look
from rlu_attestation.cli.output import console, print_json
from rlu_attestation.files import load_policy, read, write_new
from rlu_attestation.policy import Policy
from rlu_attestation.policy_draft import Observation
from rlu_attestation.policy_hardware import ROOTS
from rlu_attestation.printing import printable
from rlu_attestation.verdict import Verdict
from rlu_attestation.x509 import MAX_PEM


def init(
    source: Annotated[
        str,
        typer.Option(
            "--from", metavar="URL|FILE", help="A server, a bundle, or evidence.", show_default=False
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The policy to write.", show_default=False)],
    references: Annotated[
        Path | None,
        typer.Option(
            "--references",
            help="The file of reference values; default: beside the policy.",
            show_default=False,
        ),
    ] = None,
    ek_root: Annotated[
        list[Path] | None,
        typer.Option(
            "--ek-root",
            help="Certificates of a TPM vendor's CA (PEM or DER); repeatable.",
            show_default=False,
        ),
    ] = None,
    registrar: Annotated[
        list[Path] | None,
        typer.Option("--registrar", help="Certificate of a registrar; repeatable.", show_default=False),
    ] = None,
    root: Annotated[
        list[str] | None,
        typer.Option(
            "--root",
            metavar="KIND=FILE",
            help="A further root for a kind of evidence; repeatable.",
            show_default=False,
        ),
    ] = None,
    as_of: Annotated[
        str | None,
        typer.Option(
            "--as-of", metavar="TIME", help="Time of every check; default: now.", show_default=False
        ),
    ] = None,
    nonce: Annotated[
        str | None,
        typer.Option(
            "--nonce",
            metavar="BASE64URL",
            help="The nonce you sent; for a server, the one to send.",
            show_default=False,
        ),
    ] = None,
    beside: Annotated[
        list[Path] | None,
        typer.Option(
            "--with",
            metavar="FILE",
            help="What endorses bare evidence: certificates, collateral; repeatable.",
            show_default=False,
        ),
    ] = None,
    report_data: Annotated[
        str | None,
        typer.Option(
            "--report-data", metavar="HEX", help="What bare evidence should be about.", show_default=False
        ),
    ] = None,
    unverified: Annotated[
        bool,
        typer.Option(
            "--unverified",
            help="Write a draft even from evidence that does not hold. It proves nothing then.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Draft a policy from evidence, for a person to review.

    Signatures and chains are verified first; evidence that does not hold gives no draft. Nothing in a draft was judged: every value comes
    from the evidence, which may itself be bad. Settings that weaken a policy are only ever written as comments.
    """
    names = references or out.with_name(f"{out.stem}.references.toml")
    files = _anchors(out, ek_root or [], registrar or [], root or [])
    at = int(time.time()) if as_of is None else moment(as_of)
    known = None if nonce is None else read_nonce(nonce)
    if known is None and is_url(source):
        known = secrets.token_bytes(32)
    observation = look(source, _trusting(files, out), at, known, beside or (), _expected(report_data))
    if not unverified:
        policy_draft.require_sound(observation)
    made = policy_draft.draft(
        observation,
        references_name=_beside(names, out),
        files=files,
        read_file=lambda name: read(out.parent / name, MAX_PEM),
    )
    write_new(out, made.policy.encode())
    written = [out]
    if made.references:
        write_new(names, made.references.encode())
        written.append(names)
    _report_draft(observation, observation.judge(load_policy(out)), written, as_json=as_json)


def _expected(report_data: str | None) -> bytes | None:
    try:
        return None if report_data is None else bytes.fromhex(report_data)
    except ValueError as error:
        raise typer.BadParameter("--report-data is hexadecimal") from error


def _anchors(
    out: Path, ek_roots: list[Path], registrars: list[Path], roots: list[str]
) -> dict[str, tuple[str, ...]]:
    """Rule of `[trust]` to names of files, as the policy will call them."""
    found: dict[str, tuple[str, ...]] = {}
    for rule, paths in (("ek_roots", ek_roots), ("registrars", registrars)):
        if paths:
            found[rule] = tuple(_beside(path, out) for path in paths)
    for text in roots:
        kind, _, path = text.partition("=")
        if kind not in ROOTS or not path:
            raise typer.BadParameter(f"--root is KIND=FILE, KIND one of {', '.join(ROOTS)}")
        found[f"roots.{kind}"] = (*found.get(f"roots.{kind}", ()), _beside(Path(path), out))
    return found


def _trusting(files: Mapping[str, tuple[str, ...]], out: Path) -> Policy:
    return policy_draft.trusting(files, lambda name: read(out.parent / name, MAX_PEM))


def _beside(path: Path, out: Path) -> str:
    """A file's name as a policy calls it: from the policy's directory."""
    return Path(os.path.relpath(path, out.parent)).as_posix()


def _report_draft(observation: Observation, verdict: Verdict, written: list[Path], *, as_json: bool) -> None:
    codes = [step.code for step in verdict.failures if not step.code.endswith(".not_checked")]
    if as_json:
        print_json(
            {
                "written": [str(path) for path in written],
                "passed": [step.id for step in observation.passed],
                "unchecked": [step.code for step in observation.unchecked],
                "false": [step.code for step in observation.false],
                "accepts": not codes,
                "refused_for": codes,
            }
        )
        return
    lines = [f"Written for your review: {', '.join(map(str, written))}. Nothing in it was judged."]
    lines.append(f"{len(observation.passed)} checks that need no policy hold.")
    if observation.unchecked:
        lines.append(
            f"Not checked, for lack of what to check it by: {', '.join(step.code for step in observation.unchecked)}."
        )
    if observation.false:
        lines.append(
            f"FALSE: {', '.join(step.code for step in observation.false)}. The values prove nothing."
        )
    if codes:
        lines.append(
            f"As it stands the draft refuses this evidence: {', '.join(codes)}. Lines marked REVIEW say why."
        )
    else:
        lines.append("As it stands the draft accepts this evidence.")
    for line in lines:
        console().print(Text(printable(line)))
