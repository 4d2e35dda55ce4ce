"""One update, step by step. Whatever fails before `Store.switch` leaves what is served as it is.

1 the source's `model.sig`, or `rlu-weights.sig` of an encrypted model: signed by one of `[model] signers`, or it refuses
2 the release number within: wanted, or not   3 sizes, and room for them   4 each file, into staging   5 everything hashed once more, and
held against the signature, as before serving   6 a version   7 `current` leads to it   8 what serves is told: `rlu serve` sees the link,
pods are rolled

`apply` and `rollback` are the last steps alone, for versions that are here.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from rlu_attestation.errors import RluError
from rlu_attestation.files import read
from rlu_server.broker import sealed_signature
from rlu_server.broker.sealed_signature import SEALED_SIGNATURE
from rlu_server.models import release, signing, verifying
from rlu_server.models.release import RELEASE
from rlu_server.models.signing import Signers
from rlu_server.models.walking import SIGNATURE
from rlu_server.settings import Settings
from rlu_server.updates import deciding, fetching
from rlu_server.updates.deciding import Applied, Candidate, Relation
from rlu_server.updates.errors import Misconfigured, NotPossible, UpdateRefused
from rlu_server.updates.fetching import Fetching, Pace, Progress, Wanted
from rlu_server.updates.sources.source import Absent, Source
from rlu_server.updates.store import Attempt, Entry, Result, State, Store


@dataclass(frozen=True, slots=True)
class Form:
    """A model as it is, or encrypted: which signature lists its files, and what verifies all of it."""

    signature: str
    verify: Callable[[Path, Signers], object]


PLAIN = Form(SIGNATURE, lambda place, signers: verifying.measure(place, "required", signers))
SEALED = Form(SEALED_SIGNATURE, sealed_signature.verify)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command did."""

    result: Result
    version: str


@dataclass(frozen=True, slots=True)
class Offer:
    """What the source has."""

    candidate: Candidate
    form: Form
    signature: bytes
    relation: Relation


class Job:
    """Args:
    source: opened only when the source is asked.
    roll: makes what serves take the current version; for pods.
    allow_downgrade: the operator said so.
    """

    def __init__(
        self,
        settings: Settings,
        source: Callable[[], Source],
        *,
        roll: Callable[[str], None] = lambda _: None,
        allow_downgrade: bool = False,
        pace: Pace | None = None,
        progress: Progress | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self.store = Store.at(settings.model.path)
        if not settings.model.name:
            raise Misconfigured(
                "update.name", "set [model] name: without it clients would see another name with each version"
            )
        self._signers = _signers(settings)
        self._source = source
        self._roll = roll
        self._allow_downgrade = allow_downgrade
        self._pace = pace or Pace(settings.update.rate_bytes)
        self._progress = progress
        self._clock = clock

    def check(self) -> Offer:
        """Ask the source; nothing is written.

        Raises:
            RluError: it cannot be asked; what it offers is refused.
        """
        return self._ask(self._source(), self.store.state())

    def fetch(self) -> Outcome:
        """Have what the source offers as a version here; what is served stays. Raises RluError, OSError."""
        return self._attempt(lambda: self._fetch()[0], asks=True)

    def update(self) -> Outcome:
        """Fetch, and switch if it is another model. Raises RluError, OSError."""

        def both() -> Outcome:
            fetched, verified = self._fetch()
            if fetched.result == "fetched":
                return self._switch(fetched.version, "applied", verified=verified)
            self._roll_current()
            return fetched

        return self._attempt(both, asks=True)

    def apply(self, version: str | None) -> Outcome:
        """Switch to a version that is here. None: the latest that was fetched and never served. Raises RluError, OSError."""

        def switch() -> Outcome:
            state = self.store.state()
            chosen = version or self._waiting(state)
            self._there(chosen)
            if chosen == self.store.current():
                self._roll_current()
                return Outcome("current", chosen)
            deciding.relation(self._read(chosen), None, state.highest, allow_downgrade=self._allow_downgrade)
            return self._switch(chosen, "applied", verified=False)

        return self._attempt(switch)

    def rollback(self, version: str | None) -> Outcome:
        """Switch back. None: to the version that was served before. Raises RluError, OSError."""

        def switch() -> Outcome:
            state = self.store.state()
            chosen = version or state.before(self.store.current(), self.store.versions())
            if chosen is None:
                raise NotPossible("update.no_previous", "no version that was served before is here any more")
            self._there(chosen)
            if chosen not in state.served:
                raise NotPossible(
                    "update.never_served",
                    f"{chosen} was never served here; `rlu update apply {chosen}` is for that",
                )
            return self._switch(chosen, "rolled_back", verified=False)

        return self._attempt(switch)

    def _attempt(self, work: Callable[[], Outcome], *, asks: bool = False) -> Outcome:
        """One at a time, and noted, however it ends. `asks`: the source."""
        with self.store.locked():
            try:
                self._catch_up()
                done = work()
            except (RluError, OSError) as error:
                code = error.code if isinstance(error, RluError) else "update.file"
                self._note(Attempt(int(self._clock()), "failed", code=code))
                raise
            self._note(Attempt(int(self._clock()), done.result, done.version), asked=asks)
            return done

    def _note(self, attempt: Attempt, *, asked: bool = False) -> None:
        try:
            state = self.store.state()
        except Misconfigured:
            return  # it is what failed, and stays for somebody to look at
        heard = attempt.time if asked else state.last_success
        self.store.write_state(msgspec.structs.replace(state, attempt=attempt, last_success=heard))

    def _ask(self, source: Source, state: State) -> Offer:
        form, signature = self._signature(source)
        signed = signing.verify(signature, self._signers)
        deciding.check_paths(signed.files, form.signature)
        number = None
        if RELEASE in signed.files:
            data = fetching.read_small(source, RELEASE, release.MAX_FILE, self._pace)
            number = _number(data, signed.files[RELEASE])
        candidate = Candidate(signed.files, number, signed.signer)
        found = deciding.relation(
            candidate, self.store.current(), state.highest, allow_downgrade=self._allow_downgrade
        )
        return Offer(candidate, form, signature, found)

    def _signature(self, source: Source) -> tuple[Form, bytes]:
        """A site that has a broker may get encrypted models. Others ask for nothing that they could not use."""
        if self._settings.weights.broker:
            try:
                return SEALED, fetching.read_small(
                    source, SEALED.signature, signing.MAX_SIGNATURE, self._pace
                )
            except Absent:
                pass
        return PLAIN, fetching.read_small(source, PLAIN.signature, signing.MAX_SIGNATURE, self._pace)

    def _fetch(self) -> tuple[Outcome, bool]:
        """And whether the version was verified just now."""
        source = self._source()
        offer = self._ask(source, self.store.state())
        version = offer.candidate.version
        if offer.relation != "wanted":
            return Outcome(offer.relation, version), False
        if version in self.store.versions():
            return Outcome("fetched", version), False
        staged = self.store.staging(offer.candidate.digest)
        files = offer.candidate.files
        found = fetching.sizes(source, sorted(files), self._pace)
        wanted = [Wanted(path, files[path], size) for path, size in found.items()]
        work = Fetching(source, staged, self._here(), self._pace, self._progress)
        self._check_room(work.missing(wanted) + len(offer.signature))
        work.fetch(wanted)
        _write(staged / "model" / offer.form.signature, offer.signature)
        try:
            offer.form.verify(staged / "model", self._signers)
        except RluError:
            # Something here is not what it was when it was fetched, or a model that is never served; nothing of it is kept.
            self.store.discard(staged)
            raise
        self.store.take(staged, version)
        self.store.drop_waiting(self.store.state(), but=version)
        return Outcome("fetched", version), True

    def _check_room(self, count: int) -> None:
        needed, free = count + self._settings.update.reserve_bytes, self.store.free()
        if needed > free:
            raise NotPossible(
                "update.space",
                f"{needed:,} bytes are needed in {self.store.root}, reserve included, and {free:,} are free; remove something, or set "
                "[update] keep lower",
            )

    def _switch(self, version: str, result: Literal["applied", "rolled_back"], *, verified: bool) -> Outcome:
        if not verified:
            self._verify(version)
        self.store.switch(version)
        changed = self._catch_up(result)
        self.store.prune(self._settings.update.keep, changed)
        self._roll(version)
        return Outcome(result, version)

    def _catch_up(self, result: Literal["applied", "rolled_back"] = "applied") -> State:
        """Note what is current, if that is not noted: a switch of ours, or of one that was killed before it could."""
        state, current = self.store.state(), self.store.current()
        if current is None or (state.history and state.history[-1].version == current):
            return state
        changed = state.switched(Entry(int(self._clock()), current, result), self._latest(current, state))
        self.store.write_state(changed)
        return changed

    def _latest(self, current: str, state: State) -> Applied | None:
        """The current version, if it is later than all before. One that cannot be read, or whose signer counts no more, is not."""
        try:
            number = self._read(current).release
        except RluError:
            return None
        before = state.highest
        if before is not None and (number or 0) < (before.release or 0):
            return None
        return Applied(number, current)

    def _verify(self, version: str) -> None:
        """All of it, as before serving. A version that waits here and is not good is removed, so that it is fetched again."""
        try:
            self._read(version)
            directory = self.store.directory(version)
            _form(directory).verify(directory, self._signers)
        except RluError:
            if version not in self.store.state().served:
                self.store.remove(version)
            raise

    def _read(self, version: str) -> Candidate:
        """A version, by its signature; its files are not looked at."""
        directory = self.store.directory(version)
        place = directory / _form(directory).signature
        signed = signing.verify(read(place, signing.MAX_SIGNATURE), self._signers)
        number = None
        if RELEASE in signed.files:
            number = _number(read(directory / RELEASE, release.MAX_FILE), signed.files[RELEASE])
        candidate = Candidate(signed.files, number, signed.signer)
        if candidate.version != version:
            raise UpdateRefused("update.tampered", f"{directory} holds another model than its name says")
        return candidate

    def _here(self) -> dict[bytes, Path]:
        """Files of the current version by digest. One whose signature does not hold names none."""
        current = self.store.current()
        if current is None:
            return {}
        try:
            files = self._read(current).files
        except RluError:
            return {}
        return {sha256: self.store.directory(current) / path for path, sha256 in files.items()}

    def _waiting(self, state: State) -> str:
        waiting = sorted(self.store.versions() - state.served)
        if not waiting:
            raise NotPossible("update.nothing_fetched", "no version waits here; `rlu update fetch` gets one")
        return waiting[-1]

    def _there(self, version: str) -> None:
        if version not in self.store.versions():
            raise Misconfigured(
                "update.version", f"there is no version {version}; `rlu update status` lists them"
            )

    def _roll_current(self) -> None:
        """Again, in case it failed after the switch; what serves this version already is not disturbed."""
        current = self.store.current()
        if current is not None:
            self._roll(current)


def _write(path: Path, data: bytes) -> None:
    """On the disk when this returns, as the files are that were fetched."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _form(directory: Path) -> Form:
    """Of a version that is here."""
    return SEALED if (directory / SEALED.signature).is_file() else PLAIN


def _signers(settings: Settings) -> Signers:
    if not settings.model.signers:
        raise Misconfigured(
            "update.signers", "updates are taken only from signers that are named; set [model] signers"
        )
    return verifying.read_signers(settings.model.signers)


def _number(data: bytes, signed: bytes) -> int:
    if hashlib.sha256(data).digest() != signed:
        raise UpdateRefused(
            "update.tampered", f"{RELEASE} is not the file that was signed; nothing was changed"
        )
    return release.parse(data)
