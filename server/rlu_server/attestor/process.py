"""The attestor process: put together from the settings, run until a signal, drained."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import sys
import time
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from rlu_attestation import cose, endorsement, jose, x509
from rlu_attestation.encoding import unb64u
from rlu_attestation.errors import RluError
from rlu_attestation.instance import issuer, ueid
from rlu_server.attestor import age, enrolment, facts, secret
from rlu_server.attestor.attesting import Attesting
from rlu_server.attestor.collect import attestation_key_for, collector_for, collectors_for, gpus_of
from rlu_server.attestor.committer import Committer
from rlu_server.attestor.enclave import EnclavePlatform
from rlu_server.attestor.enrolment import StateFiles
from rlu_server.attestor.errors import LogCorrupt, NotReady
from rlu_server.attestor.events import Event, EventLog
from rlu_server.attestor.exporting import Exporting
from rlu_server.attestor.journal import Journal
from rlu_server.attestor.ledger import Ledger
from rlu_server.attestor.past import Past
from rlu_server.attestor.platform import Platform
from rlu_server.attestor.records import start_line
from rlu_server.attestor.server import Server
from rlu_server.attestor.service import Attestor
from rlu_server.attestor.software import SoftwarePlatform
from rlu_server.attestor.tiles import TiledTree
from rlu_server.attestor.tpm.attestation_key import EnrolledKey
from rlu_server.attestor.tpm.platform import TpmConfiguration, TpmPlatform
from rlu_server.settings import Settings

SWITCH_S = 0.0005
"""The signer's thread waits for the interpreter three times a batch, each time up to this long while the loop is busy. With Python's own
5 ms, a signature of 100 ms became one of 115."""
EVENT_LOG = Path("/sys/kernel/security/tpm0/binary_bios_measurements")


def now() -> int:
    """Seconds since the epoch."""
    return int(time.time())


def runtime_dir(settings: Settings) -> Path:
    """The runtime directory.

    Raises:
        NotReady: it is not set.
    """
    if settings.runtime_dir is None:
        raise NotReady("runtime_dir", "runtime_dir is not set; `rlu serve` makes one and passes it on")
    return settings.runtime_dir


def socket_path(directory: Path) -> Path:
    """Where the attestor listens."""
    return directory / "attestor" / "attestor.sock"


def tpm_configuration(settings: Settings) -> TpmConfiguration:
    """Where the TPM and its keys are.

    Raises:
        NotReady: the key path is neither a path nor a handle.
    """
    place = settings.key_path
    try:
        key: Path | int = int(place, 16) if place.startswith(("0x", "0X")) else Path(place)
    except ValueError as error:
        raise NotReady("key.handle", "a persistent handle looks like 0x81000010") from error
    device = settings.attestation.tcti.startswith("device:")
    return TpmConfiguration(
        tcti=settings.attestation.tcti,
        key=key,
        pcrs=tuple(sorted(set(settings.attestation.pcrs))),
        event_log=EVENT_LOG if device else None,
    )


def open_platform(settings: Settings) -> Platform:
    """The key's holder: a TPM, a TEE's memory, or with `insecure_software_key` this process."""
    files = StateFiles(settings.state_dir)
    files.secret.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if settings.attestation.insecure_software_key:
        given = Path(settings.attestation.key_path) if settings.attestation.key_path else None
        return SoftwarePlatform(given, files.software_counter)
    collector = collector_for(settings)
    if collector is not None:
        return EnclavePlatform(collector, files.software_counter)
    configuration = tpm_configuration(settings)
    certified = attestation_key_for(settings)
    if certified is not None:
        return TpmPlatform(configuration, secret.load_or_create(files.secret), certified)
    enrolled = enrolment.load(files.enrolment)
    ours = secret.load_or_create(files.secret)
    platform = TpmPlatform(configuration, ours, EnrolledKey(files.ak, ours, enrolled))
    if endorsement.of_certificate(x509.parse(enrolled.ak_certificate)).ak_name != platform.ak_name:
        platform.close()
        raise NotReady("enrolment.other_ak", f"{files.enrolment} is for another AK: enrol this TPM again")
    return platform


def open_ledger(name: str, journal: Journal, blinds: bytes) -> Ledger:
    """A ledger over the sealed part of the log, into which `rebuild` reads the rest.

    Raises:
        LogCorrupt: the sealed leaves are damaged.
    """
    tree = TiledTree(journal.tiles, journal.sealed)
    ledger = Ledger(name, secrets.token_bytes, blinds, tree)
    ledger.remember(journal.recent())
    return ledger


def rebuild(
    ledger: Ledger, journal: Journal, key: ec.EllipticCurvePublicKey
) -> tuple[cose.SignedHead | None, bool]:
    """Read the log back into the ledger; gives its last head, and True if a crash had torn its end off.

    Raises:
        LogCorrupt: a head in it is not one over the leaves before it, or the last one was not signed by our key.
    """
    batch = head = None
    for batch in journal.batches:
        ledger.replay(batch)
        head = cose.parse_head(unb64u(batch.head.head))
        if head.root != ledger.tree.root() or head.issuer != ledger.issuer:
            raise LogCorrupt("log.head", f"the head over {batch.head.size} leaves is not theirs")
    if head is not None:
        try:
            head.verify(key)
        except RluError as error:
            raise LogCorrupt(
                "log.head", "the log's last head was not signed by this instance's key"
            ) from error
    elif journal.sealed:
        raise LogCorrupt("log.damaged", "the segment does not begin with the head of the one before")
    return head, journal.accept(batch)


def count_start(ledger: Ledger, journal: Journal, platform: Platform) -> int:
    """Raise the counter of starts, and compare it with what the log says of the last one.

    Every start leaves its mark in two places: the counter, which nobody sets back, and the log. When the counter was raised more often
    than the log knows of, the log is an old copy, and to go on with it would be to sign a second history.

    Raises:
        LogCorrupt: `log.restored`, `log.start_counter`.
    """
    tries = journal.try_start()
    count, known = platform.raise_start_counter(), ledger.start_count
    if known is None:
        return count
    if count <= known:
        raise LogCorrupt(
            "log.start_counter",
            f"the counter of starts stands at {count}, and was {known} when this log was last written: it was set back, or is another's",
        )
    if count > known + tries:
        raise LogCorrupt(
            "log.restored",
            f"there were {count - known} starts since this log was written, and it knows of {tries}: it is an old copy. Bring the "
            "newest one back; if it is lost, move the key file away, and a new instance will name this log's head as its predecessor",
        )
    return count


async def serve(settings: Settings, allowed: frozenset[int], events: EventLog) -> None:
    """Run the attestor until SIGTERM or SIGINT, then drain it.

    Raises:
        RluError: it cannot start; the code says why.
    """
    sys.setswitchinterval(SWITCH_S)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    directory = runtime_dir(settings)
    gpus, collectors = gpus_of(settings), collectors_for(settings)
    platform = open_platform(settings)
    with contextlib.closing(platform):
        jwk = jose.public_jwk(platform.public_key)
        name = issuer(jose.thumbprint(jwk))
        log = StateFiles(settings.state_dir).log
        journal = Journal(log, name, jwk)
        with contextlib.closing(journal):
            blinds = secret.blind_key(secret.load_or_create(StateFiles(settings.state_dir).secret))
            ledger = open_ledger(name, journal, blinds)
            last, torn = rebuild(ledger, journal, platform.public_key)
            if torn:
                events.emit(Event.LOG_TAIL_DROPPED)
            exporting = Exporting(log, name, settings.log.export_limit, settings.log.export_when_behind)
            created = age.made_at(StateFiles(settings.state_dir).key_age, ueid(jose.thumbprint(jwk)), now())
            start = count_start(ledger, journal, platform)
            key = facts.Key(jwk, platform.kind, created, start, journal.predecessor)
            committer = Committer(
                ledger,
                journal,
                platform,
                now,
                events,
                latest=0 if last is None else last.iat,
                segment_leaves=settings.log.segment_leaves,
            )
            try:
                await committer.sign_head(start_line(start))
                ledger.start_count = start
                journal.started()
                attesting = Attesting(
                    committer,
                    platform,
                    key,
                    directory / "facts",
                    settings.attestation.statement_ttl_s,
                    now,
                    gpus,
                    collectors,
                )
                attestor = Attestor(
                    committer,
                    attesting,
                    now,
                    events,
                    settings.attestation.renew_s,
                    exporting,
                    Past(log),
                    settings.log.head_interval_s,
                )
                await _run(Server(attestor, socket_path(directory), allowed), stop)
            finally:
                committer.close()
    events.emit(Event.STOPPED)


async def _run(server: Server, stop: asyncio.Event) -> None:
    committer, events = server.attestor.committer, server.attestor.events
    await server.start()
    events.emit(Event.STARTED, count=committer.ledger.sessions)
    signing = asyncio.create_task(committer.run())
    chores = [
        asyncio.create_task(server.attestor.attesting.run()),
        asyncio.create_task(server.run_clock()),
    ]
    stopping = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait([signing, stopping, *chores], return_when=asyncio.FIRST_COMPLETED)
    if stopping in done:
        events.emit(Event.DRAINING)
        server.stop_listening()
    committer.drain()
    # Anything but the signal ending first is a bug; gather raises it, and the process ends rather than limp on.
    await asyncio.gather(signing, *(task for task in chores if task.done()))
    for task in (*chores, stopping):
        task.cancel()
    await server.close_connections()
