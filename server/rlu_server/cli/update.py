"""`rlu update`: new versions of the model, fetched by a job of its own, verified, switched to, and back."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from rlu_attestation.cli.output import print_json
from rlu_attestation.errors import RluError
from rlu_attestation.printing import printable
from rlu_server.cli.model import bar
from rlu_server.outreach.letters import JOURNAL, noting
from rlu_server.settings import Settings, SettingsError, load
from rlu_server.updates import deciding, opening, rolling
from rlu_server.updates.errors import Misconfigured, NotPossible
from rlu_server.updates.job import Job, Outcome
from rlu_server.updates.store import Store

app = typer.Typer(
    name="update",
    help="Fetch, verify, apply and roll back versions of the model.",
    no_args_is_help=True,
    add_completion=False,
)
ConfigOption = Annotated[
    Path | None, typer.Option("--config", envvar="RLU_CONFIG", help="rlu.toml.", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON value on standard output.")]
JournalOption = Annotated[
    bool, typer.Option(help="Note whom the job talked to in egress.jsonl below the state directory.")
]
DowngradeOption = Annotated[
    bool,
    typer.Option("--allow-downgrade", help="Take a model that is older than one before, or has no number."),
]
FILE = "update.file"
SAYS = {
    "applied": "applied: {} is what is served from now on",
    "current": "up to date: {} is what the source has, and what is served",
    "fetched": "fetched and verified: {} (`rlu update apply` switches to it)",
    "held": "{} was applied before, and rolled back; `rlu update apply {}` brings it back, or a newer release does",
    "rolled_back": "rolled back: {} is what is served from now on",
    "not_due": "not due",
}


@app.command()
def check(
    config: ConfigOption = None,
    journal: JournalOption = True,
    allow_downgrade: DowngradeOption = False,
    as_json: JsonOption = False,
) -> None:
    """Ask the source what it has: its signature and release number are fetched, and nothing else; nothing is changed.

    Exit codes: 0 it said so (result: current, wanted, held), 10 what it has is refused, 2 configuration, 3 it did not answer, 30 malformed.
    """
    with _job(config, journal, allow_downgrade, quiet=as_json) as job:
        offer = job.check()
    found = offer.candidate
    if as_json:
        print_json(
            {
                "result": offer.relation,
                "exit_code": 0,
                "version": found.version,
                "release": found.release,
                "files": len(found.files),
                "signer": found.signer.hex(),
            }
        )
        return
    said = {"wanted": "there is another: {}", **SAYS}[offer.relation]
    print(said.format(found.version, found.version))


@app.command()
def fetch(
    config: ConfigOption = None,
    journal: JournalOption = True,
    allow_downgrade: DowngradeOption = False,
    as_json: JsonOption = False,
) -> None:
    """Fetch what the source has, verify all of it, and keep it beside what is served; nothing else changes.

    A run that was interrupted, or killed, goes on where it was.

    Exit codes: 0 it is here, 10 refused, 2 configuration, 3 source, disk or another update in the way, 30 malformed.
    """
    _do(config, journal, allow_downgrade, as_json, lambda job: job.fetch())


@app.command()
def apply(
    version: Annotated[
        str, typer.Argument(metavar="[VERSION]", help="Default: the one that was fetched last.")
    ] = "",
    config: ConfigOption = None,
    allow_downgrade: DowngradeOption = False,
    as_json: JsonOption = False,
) -> None:
    """Verify a version that is here, and switch to it: what serves drains, and goes on with it.

    Exit codes: 0 switched, or served already, 10 refused, 2 configuration, 3 not possible now, 30 malformed.
    """
    _do(config, False, allow_downgrade, as_json, lambda job: job.apply(version or None))


@app.command()
def rollback(
    version: Annotated[
        str, typer.Argument(metavar="[VERSION]", help="Default: the one that was served before.")
    ] = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Verify the version that was served before, and switch back to it. Scheduled updates do not bring the other one back.

    Exit codes: 0 switched, 10 it is not what it was, 2 configuration, 3 there is none, or not possible now, 30 malformed.
    """
    _do(config, False, False, as_json, lambda job: job.rollback(version or None))


@app.command()
def run(
    config: ConfigOption = None,
    journal: JournalOption = True,
    now: Annotated[
        bool, typer.Option("--now", help="Whatever the schedule says ([model] update_schedule).")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """For a timer: fetch and apply, if the schedule says so. With `manual`, the default, nothing is done.

    Exit codes: 0 applied, or nothing to do, 10 refused, 2 configuration, 3 source, disk or another update in the way, 30 malformed.
    """
    settings = _settings(config)
    last = Store.at(settings.model.path).state().last_success if not now else None
    if not now and not deciding.due(settings.model.update_schedule, last, int(time.time())):
        _tell("not_due", "", as_json)
        return
    _do(config, journal, False, as_json, lambda job: job.update())


@app.command()
def status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """What is served, what else is here, what was served when, and what became of the last attempt. Nothing is asked.

    Exit codes: 0 said, 2 configuration.
    """
    settings = _settings(config)
    store = Store.at(settings.model.path)
    state, there, current = store.state(), sorted(store.versions()), store.current()
    attempt = state.attempt
    if as_json:
        print_json(
            {
                "current": current,
                "versions": there,
                "highest": {"version": state.highest_version or None, "release": state.highest_release},
                "history": [
                    {"time": one.time, "version": one.version, "result": one.result} for one in state.history
                ],
                "attempt": None
                if attempt is None
                else {
                    "time": attempt.time,
                    "result": attempt.result,
                    "version": attempt.version or None,
                    "code": attempt.code or None,
                },
                "last_success": state.last_success,
                "schedule": settings.model.update_schedule,
            }
        )
        return
    print(f"current:  {current or 'none yet'}")
    for version in there:
        kind = "served before" if version in state.served else "waits (rlu update apply)"
        if version != current:
            print(f"here:     {version}  {kind}")
    for one in state.history:
        print(f"{_at(one.time)}  {one.result:11}  {one.version}")
    if attempt is not None:
        what = attempt.code or attempt.version
        print(f"last attempt: {_at(attempt.time)}  {attempt.result}  {printable(what)}")
    print(f"source last had: {'never' if state.last_success is None else _at(state.last_success)}")
    print(f"schedule: {settings.model.update_schedule}")


def _do(
    config: Path | None,
    journal: bool,
    allow_downgrade: bool,
    as_json: bool,
    work: Callable[[Job], Outcome],
) -> None:
    with _job(config, journal, allow_downgrade, quiet=as_json) as job:
        try:
            done = work(job)
        except (RluError, OSError) as error:
            _event("update.failed", error.code if isinstance(error, RluError) else FILE)
            raise
    _event(f"update.{done.result}", done.version)
    _tell(done.result, done.version, as_json)


@contextlib.contextmanager
def _job(config: Path | None, journal: bool, allow_downgrade: bool, *, quiet: bool) -> Iterator[Job]:
    settings = _settings(config)
    place = settings.state_dir / JOURNAL if journal else None
    try:
        # In a pod the journal lies in the store, which the first run makes.
        if place is not None and place.parent == Store.at(settings.model.path).root:
            place.parent.mkdir(parents=True, exist_ok=True)
        with _signals(), noting(place) as note, bar(quiet=quiet, title="fetching") as progress:
            yield Job(
                settings,
                lambda: opening.source_of(settings.update, note),
                roll=rolling.roller(settings.update.rollout),
                allow_downgrade=allow_downgrade,
                progress=progress,
            )
    except OSError as error:
        where = error.filename or settings.model.path
        raise NotPossible(FILE, f"cannot use {where}: {error.strerror}") from error


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """A run that is told to end says in the journal what it had fetched by then."""

    def end(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _tell(result: str, version: str, as_json: bool) -> None:
    if as_json:
        print_json({"result": result, "exit_code": 0, "version": version or None})
        return
    print(SAYS[result].format(version, version))


def _event(name: str, what: str) -> None:
    line: dict[str, Any] = {"time": round(time.time(), 3), "event": name}
    line["code" if name == "update.failed" else "version"] = what
    sys.stderr.write(json.dumps(line) + "\n")
    sys.stderr.flush()


def _at(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(seconds))


def _settings(config: Path | None) -> Settings:
    try:
        return load(config)
    except SettingsError as error:
        raise Misconfigured("update.settings", str(error)) from error
