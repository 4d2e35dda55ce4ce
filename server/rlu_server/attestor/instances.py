"""Makes an instance from a key and a log: at a start, when one that was stepping down is gone on with, and when a key is rotated."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from rlu_attestation import cose, jose
from rlu_attestation.encoding import unb64u
from rlu_attestation.errors import RluError
from rlu_attestation.gpus import Gpus
from rlu_attestation.instance import Predecessor, issuer
from rlu_server.attestor import facts, secret
from rlu_server.attestor.attesting import Attesting
from rlu_server.attestor.canary import Canary
from rlu_server.attestor.collect import Collector
from rlu_server.attestor.committer import Committer
from rlu_server.attestor.cosignatures import Cosignatures
from rlu_server.attestor.enrolment import StateFiles
from rlu_server.attestor.errors import LogCorrupt
from rlu_server.attestor.events import Event, EventLog
from rlu_server.attestor.exporting import Exporting
from rlu_server.attestor.journal import Journal
from rlu_server.attestor.ledger import Ledger
from rlu_server.attestor.licensing import Licensing
from rlu_server.attestor.past import Past
from rlu_server.attestor.platform import Platform
from rlu_server.attestor.records import start_line
from rlu_server.attestor.roster import Attestor
from rlu_server.attestor.slots import KeySlots
from rlu_server.attestor.tiles import TiledTree
from rlu_server.licence import mark
from rlu_server.licence.mark import Mark
from rlu_server.licence.place import place_of
from rlu_server.settings import Settings


class Instances:
    """What every instance of one attestor is made with.

    Args:
        directory: `<runtime>/facts`.
        policy: digest of the policy of continuous re-attestation.
    """

    def __init__(
        self,
        settings: Settings,
        directory: Path,
        gpus: Gpus | None,
        collectors: Sequence[Collector],
        clock: Callable[[], int],
        events: EventLog,
        policy: bytes | None = None,
    ) -> None:
        files = StateFiles(settings.state_dir)
        self.log = files.log
        self._settings = settings
        self._directory = directory
        self._gpus = gpus
        self._collectors = collectors
        self._clock = clock
        self._events = events
        self._policy = policy
        ours = secret.load_or_create(files.secret)
        self._blinds = secret.blind_key(ours)
        self._past = Past(self.log)
        self.cosignatures = Cosignatures(self.log, settings.log.witnesses, events)
        self.canary = Canary(files.secret.parent, directory, clock)
        place = place_of(settings)
        self.licensing = (
            None
            if place is None
            else Licensing(place, Mark(files.secret.parent / mark.FILE, ours), clock, events)
        )

    def read(self, platform: Platform, journal: Journal) -> tuple[Ledger, cose.SignedHead | None]:
        """The state that the log leads to, and its last head.

        Raises:
            LogCorrupt: as `rebuild`.
        """
        ledger = open_ledger(issuer_of(platform), journal, self._blinds)
        last, torn = rebuild(ledger, journal, platform.public_key)
        if torn:
            self._events.emit(Event.LOG_TAIL_DROPPED)
        return ledger, last

    async def start(
        self,
        platform: Platform,
        journal: Journal,
        read: tuple[Ledger, cose.SignedHead | None],
        created: int,
        count: int,
        thread: ThreadPoolExecutor | None = None,
    ) -> Attestor:
        """An instance whose first head after this start is signed.

        Args:
            created: when the key was made.
            count: of the counter of starts.
            thread: the signer's, of another key of the same device.

        Raises:
            AttestorError, OSError: hardware or disk failed.
        """
        ledger, last = read
        attestation, log = self._settings.attestation, self._settings.log
        committer = Committer(
            ledger,
            journal,
            platform,
            self._clock,
            self._events,
            latest=0 if last is None else last.iat,
            segment_leaves=log.segment_leaves,
            thread=thread,
        )
        try:
            await committer.sign_head(start_line(count))
            ledger.start_count = count
            if self.licensing is not None:
                self.licensing.look(committer.latest)
            attesting = self.attesting(committer, platform, journal, created, count)
            ledger.counting.begin(lambda: attesting.key, self._clock(), self._policy)
            return Attestor(
                committer,
                attesting,
                self._clock,
                self._events,
                attestation.renew_s,
                Exporting(self.log, ledger.issuer, log.export_limit, log.export_when_behind),
                self._past,
                log.head_interval_s,
            )
        except BaseException:
            if thread is None:
                committer.close()
            raise

    def followed(self, named: Predecessor, slots: KeySlots) -> Predecessor:
        """The instance before, with the head its log ended at; that is later than the one named at first, if its sessions went on."""
        if not slots.continuity.is_dir():
            return named
        found = next((i for i in self._past.instances() if i.issuer == named.issuer), None)
        return named if found is None else Predecessor(named.issuer, found.head)

    def attesting(
        self, committer: Committer, platform: Platform, journal: Journal | None, created: int, count: int
    ) -> Attesting:
        """What makes the statements of a key. Without a log of its own they are for a rehearsal."""
        jwk = jose.public_jwk(platform.public_key)
        predecessor = None if journal is None else journal.predecessor
        return Attesting(
            committer,
            platform,
            facts.Key(jwk, platform.kind, created, count, predecessor),
            self._directory,
            self._settings.attestation.statement_ttl_s,
            self._clock,
            self._gpus,
            self._collectors,
            lambda: self.canary.mention,
            lambda: None if self.licensing is None else self.licensing.mention,
        )


def issuer_of(platform: Platform) -> str:
    """The instance that a key makes."""
    return issuer(jose.thumbprint(jose.public_jwk(platform.public_key)))


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

    Raises:
        LogCorrupt: as `check_count`.
    """
    tries = journal.try_start()
    count = platform.raise_start_counter()
    check_count(ledger.start_count, count, tries)
    return count


def check_count(known: int | None, count: int, tries: int) -> None:
    """Compare the counter of starts with what a log says of the last one.

    Every start leaves its mark in two places: the counter, which nobody sets back, and the log. When the counter was raised more often
    than the log knows of, the log is an old copy, and to go on with it would be to sign a second history.

    Args:
        known: the counter's value at the last start that is in the log.
        tries: how often it was raised since, as far as is noted beside the log.

    Raises:
        LogCorrupt: `log.restored`, `log.start_counter`.
    """
    if known is None:
        return
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
