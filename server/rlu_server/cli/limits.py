"""`rlu limits`: what each tenant may use, as the limits file says it.

The file is written by hand. A running server takes it over by itself within seconds; one that cannot be read changes nothing there, and
`rlu limits check` says why.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from rlu_attestation.cli.output import console, fail, print_json
from rlu_attestation.errors import RluError
from rlu_server.core.limits.rules import Allowance, LimitsFile, Rule, parse_file, rule_for
from rlu_server.settings import SettingsError, load

app = typer.Typer(
    name="limits",
    help="Show and check what each tenant may use.",
    no_args_is_help=True,
    add_completion=False,
)

EVERYBODY = "(any other)"
FileOption = Annotated[
    Path | None, typer.Option("--file", help="The limits file; default: the one the configuration names.")
]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", envvar="RLU_CONFIG", help="rlu.toml, for the place of the limits file."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON value on standard output.")]


class Unusable(RluError):
    """The command line, the configuration or the file cannot be used."""

    exit_code = 2


def _read(file: Path | None, config: Path | None, *, as_json: bool) -> tuple[Path, LimitsFile | None]:
    """The file, or None when there is none; ends the command when it cannot be used."""
    try:
        path = file if file is not None else load(config).limits_file
        try:
            return path, parse_file(path.read_bytes())
        except FileNotFoundError:
            if file is not None:
                raise Unusable("limits.file.access", f"there is no file {path}") from None
            return path, None
    except SettingsError as error:
        refused: RluError = Unusable("configuration.refused", str(error))
    except OSError as error:
        refused = Unusable("limits.file.access", f"cannot read {error.filename}: {error.strerror}")
    except RluError as error:
        refused = error
    fail(refused, as_json=as_json)
    raise typer.Exit(refused.exit_code)


@app.command("check")
def check(file: FileOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Read the file as the server does; says which key is wrong."""
    path, limits = _read(file, config, as_json=as_json)
    if as_json:
        print_json({"file": str(path), "tenants": None if limits is None else len(limits.tenants)})
    elif limits is None:
        print(f"There is no file {path}: nothing is limited.")
    else:
        print(f"{path}: good, with tables for {len(limits.tenants)} tenants.")


@app.command("show")
def show(
    tenant: Annotated[
        str | None, typer.Option(help="Only this tenant, whether the file names it or not.")
    ] = None,
    file: FileOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what holds for each tenant and principal, with defaults filled in."""
    _, found = _read(file, config, as_json=as_json)
    limits = found or LimitsFile()
    names = [*limits.tenants, EVERYBODY] if tenant is None else [tenant]
    rows = [(name, who, rule_for(limits, name, who)) for name in names for who in _people(limits, name)]
    if as_json:
        print_json({"limits": [_public(*row) for row in rows]})
        return
    table = Table(box=None)
    for heading in ("tenant", "principal"):
        table.add_column(heading, overflow="fold")
    for heading in ("requests/min", "tokens/min", "concurrent", "scratch", "weight", "priority"):
        table.add_column(heading)
    for name, who, rule in rows:
        pairs = zip(_amounts(rule.tenant), _amounts(rule.principal), strict=True)
        cells = [f"{whole} ({own} each)" if own != "-" else whole for whole, own in pairs]
        more = ("-" if rule.scratch_bytes is None else str(rule.scratch_bytes), f"{rule.weight:g}")
        # Labels are shown as they are, never read as markup.
        table.add_row(*map(Text, (name, who, *cells, *more, rule.priority.name.lower())))
    console().print(table)


def _people(limits: LimitsFile, tenant: str) -> list[str]:
    own = limits.tenants.get(tenant)
    named = {**limits.default.principals, **(own.principals if own is not None else {})}
    return [*named, EVERYBODY]


def _amounts(allowance: Allowance) -> list[str]:
    values = (allowance.requests_per_minute, allowance.tokens_per_minute, allowance.concurrent_requests)
    return ["-" if value is None else str(value) for value in values]


def _public(tenant: str, principal: str, rule: Rule) -> dict[str, Any]:
    def amounts(allowance: Allowance) -> dict[str, int | None]:
        return {name: getattr(allowance, name) for name in allowance.__struct_fields__}

    return {
        "tenant": None if tenant == EVERYBODY else tenant,
        "principal": None if principal == EVERYBODY else principal,
        "of_tenant": amounts(rule.tenant),
        "of_principal": amounts(rule.principal),
        "scratch_bytes": rule.scratch_bytes,
        "weight": rule.weight,
        "priority": rule.priority.name.lower(),
    }
