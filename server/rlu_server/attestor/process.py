"""The attestor process: put together from the settings, run until a signal, drained."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from rlu_attestation import endorsement, jose, x509
from rlu_attestation.files import load_policy
from rlu_attestation.instance import ueid
from rlu_attestation.policy import Policy
from rlu_server.attestor import age, enrolment, secret
from rlu_server.attestor.collect import attestation_key_for, collector_for, collectors_for, gpus_of
from rlu_server.attestor.drift import Watch
from rlu_server.attestor.enclave import EnclavePlatform
from rlu_server.attestor.enrolment import StateFiles
from rlu_server.attestor.errors import HardwareRefused, NotReady
from rlu_server.attestor.events import Event, EventLog
from rlu_server.attestor.instances import Instances, check_count, issuer_of
from rlu_server.attestor.journal import Journal, locked
from rlu_server.attestor.keeping import key_slots, tpm_configuration
from rlu_server.attestor.platform import Platform
from rlu_server.attestor.roster import Roster
from rlu_server.attestor.rotation import Rotation
from rlu_server.attestor.server import Server
from rlu_server.attestor.slots import KeySlots
from rlu_server.attestor.software import SoftwarePlatform
from rlu_server.attestor.tpm.attestation_key import EnrolledKey
from rlu_server.attestor.tpm.platform import TpmPlatform
from rlu_server.settings import Settings

SWITCH_S = 0.0005
"""The signer's thread waits for the interpreter three times a batch, each time up to this long while the loop is busy. With Python's own
5 ms, a signature of 100 ms became one of 115."""


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


@dataclass(frozen=True, slots=True)
class Leaving:
    """An instance that had stepped down when this attestor last ran."""

    platform: Platform
    journal: Journal
    created: int


def leaving(slots: KeySlots, platform: Platform, journal: Journal, events: EventLog) -> Leaving | None:
    """What is to be gone on with; None where no key had stepped down, or the one that had is not to be used any more."""
    place = slots.stepped_down
    if place is None:
        return None
    try:
        before = platform.beside(place)
    except HardwareRefused as error:
        # Its sessions stay without a close: nobody can sign one.
        events.emit(Event.KEY_RETIRED, error.code)
        return None
    found = journal.resume(issuer_of(before))
    if found is None:
        before.close()
        return None
    name = ueid(jose.thumbprint(jose.public_jwk(before.public_key)))
    return Leaving(before, found, age.made_at(slots.previous_age, name, now()))


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
    named = settings.attestation.policy
    policy = None if named is None else load_policy(named)
    slots = key_slots(settings)
    # Held before anything is put right or made: another attestor may be in the middle of a rotation, or of its first start.
    with locked(StateFiles(settings.state_dir).log), contextlib.ExitStack() as closing:
        slots.recover()
        platform = open_platform(settings)
        closing.callback(platform.close)
        name, jwk = issuer_of(platform), jose.public_jwk(platform.public_key)
        instances = Instances(
            settings, directory / "facts", gpus, collectors, now, events, policy.digest if policy else None
        )
        journal = Journal(instances.log, name, jwk, held=True)
        closing.callback(journal.close)
        read = instances.read(platform, journal)
        created = age.made_at(slots.age, ueid(jose.thumbprint(jwk)), now())
        before = leaving(slots, platform, journal, events)
        tries, count = journal.try_start(), platform.raise_start_counter()
        check_count(read[0].start_count, count, tries)
        current = await instances.start(platform, journal, read, created, count)
        closing.callback(current.committer.close)
        roster = Roster(current, instances.cosignatures, licensing=instances.licensing)
        if before is None and journal.predecessor is not None:
            current.attesting.predecessor = instances.followed(journal.predecessor, slots)
        if before is not None:
            closing.callback(before.journal.close)
            await _go_on(before, roster, instances, count, tries)
        closing.pop_all()
        closing.callback(_close, roster)
        journal.started()
        server = Server(roster, socket_path(directory), allowed)
        rotation = Rotation(server, instances, slots, settings.attestation, now, events)
        await _run(server, rotation, _watch(server, settings, policy, events), stop)
    events.emit(Event.STOPPED)


async def _go_on(before: Leaving, roster: Roster, instances: Instances, count: int, tries: int) -> None:
    """Have the instance that had stepped down go on beside the current one."""
    read = instances.read(before.platform, before.journal)
    check_count(read[0].start_count, count, tries)
    thread = roster.current.committer.thread
    leaving = await instances.start(before.platform, before.journal, read, before.created, count, thread)
    leaving.step_down(roster.current.issuer)
    roster.leaving = leaving


def _close(roster: Roster) -> None:
    """Whoever is there at the end: since the start a key may have been followed by another, and have been closed."""
    roster.current.committer.close()  # the thread is that of all
    for instance in roster:
        instance.committer.journal.close()
        instance.committer.platform.close()


def _watch(server: Server, settings: Settings, policy: Policy | None, events: EventLog) -> Watch:
    attestation = settings.attestation
    software = attestation.insecure_software_key
    return Watch(server, policy, software, lambda: gpus_of(settings), attestation.appraise_s, now, events)


async def _run(server: Server, rotation: Rotation, watch: Watch, stop: asyncio.Event) -> None:
    events = server.attestor.events
    await server.start()
    events.emit(Event.STARTED, count=sum(one.committer.ledger.sessions for one in server.roster))
    chores = [asyncio.create_task(work) for work in (rotation.run(), watch.run(), server.run_clock())]
    licensing = server.roster.licensing
    if licensing is not None:
        chores.append(asyncio.create_task(licensing.run(lambda: server.roster.current.committer.latest)))
    stopping = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait([stopping, *chores], return_when=asyncio.FIRST_COMPLETED)
    if stopping in done:
        events.emit(Event.DRAINING)
        server.stop_listening()
    # Anything but the signal ending first is a bug; gather raises it, and the process ends rather than limp on.
    failed = [task for task in chores if task.done()]
    for task in (*chores, stopping):
        task.cancel()
    await asyncio.gather(rotation.drain(), *failed)
    await server.close_connections()
