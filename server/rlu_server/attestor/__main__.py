"""The attestor process, and the machine's side of its enrolment.

python -m rlu_server.attestor --config FILE                       run (what `rlu serve` starts)
python -m rlu_server.attestor --config FILE request -o REQUEST    ask a registrar for enrolment
python -m rlu_server.attestor --config FILE activate CHALLENGE -o RESPONSE
python -m rlu_server.attestor --config FILE import ENROLMENT
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
from pathlib import Path

# Before anything loads the TSS library: it would log to stderr, and stderr ends up on a disk.
os.environ["TSS2_LOG"] = "all+NONE"

import uvloop

from rlu_attestation import x509
from rlu_attestation.errors import RluError
from rlu_server import settings as configuration
from rlu_server.attestor import enrolment, process
from rlu_server.attestor.enrolment import StateFiles
from rlu_server.attestor.events import Event, EventLog
from rlu_server.attestor.tpm import documents
from rlu_server.settings import Settings

USAGE, INTERNAL = 2, 1
GC_THRESHOLD = (20_000, 20, 50)


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit code, by cause."""
    options = _parser().parse_args(arguments)
    events = EventLog(sys.stderr if options.command else sys.stdout)
    try:
        settings = configuration.load(options.config)
        if options.command is None:
            allowed = frozenset(options.allow_uid or [os.getuid()])
            # What was loaded stays; looking through it for garbage again and again costs every request.
            gc.collect()
            gc.freeze()
            gc.set_threshold(*GC_THRESHOLD)
            uvloop.run(process.serve(settings, allowed, events))
        else:
            _enrol(options, settings)
    except configuration.SettingsError as error:
        print(error, file=sys.stderr)
        return USAGE
    except RluError as error:
        # Raised only before the socket is open: there is no session content in this process yet.
        events.emit(Event.REFUSED_TO_START, error.code)
        print(f"attestor: {error.message} ({error.code})", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"attestor: cannot use {error.filename or 'a file'}: {error.strerror}", file=sys.stderr)
        return USAGE
    except Exception as error:
        # A bug. Its text could hold anything, so only its kind is told.
        events.emit(Event.INTERNAL, type(error).__name__)
        return INTERNAL
    return 0


def _enrol(options: argparse.Namespace, settings: Settings) -> None:
    tcti, files = settings.attestation.tcti, StateFiles(settings.state_dir)
    if options.command == "request":
        chain = tuple(c.raw for path in options.ek_chain for c in x509.parse_many(path.read_bytes()))
        _write(options.out, documents.encode(enrolment.request(tcti, files, chain)))
        print(f"Carry {options.out} to the registrar: rlu registrar challenge")
    elif options.command == "activate":
        challenge = documents.parse(options.challenge.read_bytes(), documents.EnrolmentChallenge)
        _write(options.out, documents.encode(enrolment.activate(tcti, files, challenge)))
        print(f"Carry {options.out} to the registrar: rlu registrar issue")
    else:
        issued = documents.parse(options.enrolment.read_bytes(), documents.Enrolment)
        enrolment.accept(tcti, files, issued)
        print("Enrolled. The attestor uses it from its next start on.")


def _write(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m rlu_server.attestor",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config", type=Path, default=_default_config(), help="rlu.toml (default: RLU_CONFIG)"
    )
    parser.add_argument(
        "--allow-uid",
        type=int,
        action="append",
        metavar="UID",
        help="user id that may connect; may be repeated (default: our own)",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="enrolment")
    request = commands.add_parser("request", help="make the AK and ask for enrolment")
    request.add_argument("-o", "--out", type=Path, required=True, help="the request to write")
    request.add_argument(
        "--ek-chain",
        type=Path,
        action="append",
        default=[],
        help="intermediates of the EK certificate (PEM or DER) that the TPM does not hold; may be repeated",
    )
    activate = commands.add_parser("activate", help="open a registrar's challenge in the TPM")
    activate.add_argument("challenge", type=Path)
    activate.add_argument("-o", "--out", type=Path, required=True, help="the response to write")
    accept = commands.add_parser("import", help="keep what the registrar issued")
    accept.add_argument("enrolment", type=Path)
    return parser


def _default_config() -> Path | None:
    path = os.environ.get("RLU_CONFIG")
    return Path(path) if path else None


if __name__ == "__main__":
    sys.exit(main())
