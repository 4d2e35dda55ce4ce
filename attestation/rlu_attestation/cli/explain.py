"""`rlu explain`: what a code means, and what to do."""

from __future__ import annotations

from typing import Annotated

import typer

from rlu_attestation.cli.output import print_json
from rlu_attestation.codes import Explanation, explain_code, known_codes
from rlu_attestation.codes.causes import CAUSES

app = typer.Typer(add_completion=False)
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
    """Explain a code: which step, what passing proves, why it fails, what to do, and whether a policy may waive it."""
    if everything == (code is not None):
        raise typer.BadParameter("give a code, or --list")
    if code is not None:
        found = explain_code(code.strip().lower())
        if as_json:
            print_json(found.to_json())
        else:
            print("\n".join(_lines(found)))
        return
    steps, causes = known_codes(), dict(sorted(CAUSES.items()))
    if as_json:
        print_json({"codes": steps, "causes": causes})
        return
    print("Steps, and codes outside a verdict:\n")
    print("\n".join(f"  {name:<30} {title}" for name, title in steps.items()))
    print("\nCauses, which follow a step and a point:\n")
    print("\n".join(f"  {name:<30} {sentence}" for name, sentence in causes.items()))


def _lines(found: Explanation) -> list[str]:
    rows = [("Step" if found.step else "About", found.title)]
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
