"""The limits file: what every tenant may use, and exceptions by name.

    [default]                        every tenant that is not named; what is left out is not limited
    requests_per_minute = 600
    tokens_per_minute = 2_000_000    input that the prefix cache did not have, and output
    concurrent_requests = 64         streamed or not, those that wait in line included
    scratch_bytes = 268_435_456      request content in memory
    weight = 1                       share of a busy engine, in proportion to the other tenants' weights
    priority = "interactive"         the best class it may use; "batch": whatever it asks for

    [default.principal]              the same, but for scratch_bytes and weight, for each user of a tenant
    concurrent_requests = 16

    [tenants.acme]                   what is left out is as in [default]
    weight = 4
    tokens_per_minute = "unlimited"

    [tenants.acme.principals.ci]     what is left out is as in the tenant's [….principal], then as in [default.principal]
    priority = "batch"

Limits of a tenant and of its principal hold both.
"""

from __future__ import annotations

import enum
import sys
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from rlu_attestation.errors import Malformed

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - Python 3.10 only
    import tomli as tomllib

MAX_FILE = 4 * 1024 * 1024
Amount = Annotated[int, Meta(ge=1, lt=2**53)] | Literal["unlimited"]
Label = Annotated[str, Meta(min_length=1, max_length=128)]


class Priority(enum.IntEnum):
    """Which class of request goes first. The numbers are the engine's: lower is earlier."""

    INTERACTIVE = 0
    BATCH = 1


class PrincipalTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the file about a principal; `None` is what was left out."""

    requests_per_minute: Amount | None = None
    tokens_per_minute: Amount | None = None
    concurrent_requests: Amount | None = None
    priority: Literal["interactive", "batch"] | None = None


class TenantTable(PrincipalTable, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the file about a tenant."""

    scratch_bytes: Amount | None = None
    weight: Annotated[float, Meta(ge=0.01, le=1000)] | None = None
    principal: PrincipalTable = PrincipalTable()
    principals: dict[Label, PrincipalTable] = {}


class LimitsFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    default: TenantTable = TenantTable()
    tenants: dict[Label, TenantTable] = {}


class Allowance(msgspec.Struct, frozen=True):
    """Limits of one tenant or one principal; `None`: none."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent_requests: int | None = None


class Rule(msgspec.Struct, frozen=True):
    """What holds for one principal of one tenant."""

    tenant: Allowance = Allowance()
    principal: Allowance = Allowance()
    scratch_bytes: int | None = None
    weight: float = 1.0
    priority: Priority = Priority.INTERACTIVE
    """The best class it may use."""
    limited: bool = False
    """Is there any limit of requests or tokens?"""


_FREE = Allowance()


def parse_file(data: bytes) -> LimitsFile:
    """Read a limits file.

    Raises:
        Malformed: `limits.file`, when it is not TOML of this form; says which key is wrong.
    """
    if len(data) > MAX_FILE:
        raise Malformed("limits.file", f"the limits file is longer than {MAX_FILE} bytes")
    try:
        document = tomllib.loads(data.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed("limits.file", f"the limits file is not TOML: {error}") from error
    try:
        return msgspec.convert(document, LimitsFile)
    except msgspec.ValidationError as error:
        raise Malformed("limits.file", f"the limits file is refused: {_blame(document) or error}") from error


def _blame(document: dict[str, Any]) -> str | None:
    """What is wrong with the first tenant's table that is, with its name; msgspec would leave the name out."""
    tenants = document.get("tenants")
    for name, table in tenants.items() if isinstance(tenants, dict) else ():
        try:
            msgspec.convert(table, TenantTable)
        except msgspec.ValidationError as error:
            return f'[tenants."{name}"]: {error}'
    return None


def rule_for(file: LimitsFile, tenant: str, principal: str) -> Rule:
    """What the file says about one principal: the nearest table that names a key decides it."""
    own = file.tenants.get(tenant, _NOTHING)
    tables: tuple[TenantTable, ...] = (own, file.default)
    named = [table.principals[principal] for table in tables if principal in table.principals]
    people = (*named, *(table.principal for table in tables))
    priorities = [_first(p.priority for p in people), _first(t.priority for t in tables)]
    tenants, principals = _allowance(tables), _allowance(people)
    return Rule(
        tenants,
        principals,
        _amount(_first(t.scratch_bytes for t in tables)),
        _first(t.weight for t in tables) or 1.0,
        Priority.BATCH if "batch" in priorities else Priority.INTERACTIVE,
        limited=tenants != _FREE or principals != _FREE,
    )


def _allowance(tables: tuple[PrincipalTable, ...]) -> Allowance:
    return Allowance(
        _amount(_first(table.requests_per_minute for table in tables)),
        _amount(_first(table.tokens_per_minute for table in tables)),
        _amount(_first(table.concurrent_requests for table in tables)),
    )


def _first(values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _amount(value: int | Literal["unlimited"] | None) -> int | None:
    return None if value == "unlimited" else value


_NOTHING = TenantTable()
