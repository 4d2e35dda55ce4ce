"""`rlu explain`: what a code means, and what to do."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from rlu_attestation.cli.output import print_json
from rlu_attestation.codes import Explanation, UnknownCode, explain_code, known_codes
from rlu_attestation.codes.causes import CAUSES

app = typer.Typer(add_completion=False)
SERVERS = "rlu_server.doctor.explaining"
"""Has the server's codes. Named, as the commands of the server are: the verifier does not depend on it, and does without."""
_WIDTH = 16


@app.command("explain")
def command(
    code: Annotated[
        str | None,
        typer.Argument(help="A code, such as quote.binding.mismatch, or a step.", show_default=False),
    ] = None,
    everything: Annotated[bool, typer.Option("--list", help="List every step and code.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON value.")] = False,
) -> None:
    """Explain a code, the verifier's or the server's: which step, what passing proves, why it fails, what to do, and waivers."""
    if everything == (code is not None):
        raise typer.BadParameter("give a code, or --list")
    if code is not None:
        show(meanings(code.strip().lower()), as_json=as_json)
        return
    steps, causes = known_codes(), dict(sorted(CAUSES.items()))
    server = _server()
    groups: dict[str, dict[str, str]] = {} if server is None else dict(server.known())
    if as_json:
        print_json({"codes": steps, "causes": causes, "server": groups})
        return
    print("Steps, and codes outside a verdict:\n")
    print("\n".join(f"  {name:<30} {title}" for name, title in steps.items()))
    print("\nCauses, which follow a step and a point:\n")
    print("\n".join(f"  {name:<30} {sentence}" for name, sentence in causes.items()))
    for title, texts in groups.items():
        print(f"\nThe server's, {title}:\n")
        print("\n".join(f"  {name:<30} {sentence}" for name, sentence in texts.items()))


def meanings(code: str) -> tuple[Explanation, ...]:
    """What a code means to the verifier and to the server; one at least.

    Raises:
        UnknownCode: `explain.unknown`.
    """
    server = _server()
    if server is None:
        return (explain_code(code),)
    of_server: tuple[Explanation, ...] = server.explain(code)
    try:
        return (explain_code(code), *of_server)
    except UnknownCode as error:
        if of_server:
            return of_server
        near = server.near(code)
        hint = f"; of the server's: {', '.join(near)}" if near else ""
        raise UnknownCode(error.code, error.message + hint) from error


def _server() -> Any:
    try:
        return importlib.import_module(SERVERS)
    except ModuleNotFoundError:  # the verifier alone is there
        return None


def show(found: Sequence[Explanation], *, as_json: bool) -> None:
    """Print every meaning; as JSON the first, with the others in `also`."""
    first, *others = found
    if as_json:
        print_json({**first.to_json(), "also": [other.to_json() for other in others]})
    else:
        print("\n\n".join("\n".join(_lines(one)) for one in found))


def _lines(found: Explanation) -> list[str]:
    rows = [("Step" if found.step else "About", found.title)]
    if found.looks:
        rows.append(("Seen in", found.looks))
    if found.proves:
        rows.append(("Passing proves", found.proves))
    rows += [("Why it fails", found.fails), ("What to do", found.remedy)]
    if found.step:
        rows.append(
            (
                "Waiver",
                "a policy may waive it, with a reason, when it cannot be made: [[waive]]"
                if found.waivable
                else "none: it is never waived",
            )
        )
    return [found.code, *(f"  {name:<{_WIDTH}}{text}" for name, text in rows)]
