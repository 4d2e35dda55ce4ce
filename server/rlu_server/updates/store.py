"""Where models are kept on the machine that serves them. `[model] path` is `<store>/current`.

    current            link to versions/VERSION: what a server that starts will serve
    versions/VERSION/  a whole model with its signature, verified; never changed once it is there
    staging/DIGEST/    what was fetched so far of one model: `parts/` by digest, `model/` whole files
    state.json         the latest model ever applied, what was served when, the last attempt
    lock               held by whoever changes something here

A server holds a shared lock on the version that it serves (`serving`), from before it hashes it, so that it is not removed; the lock ends
with the process.

A version appears by a rename when it is complete and verified, and `current` is replaced by another link: each is there whole or not at
all, whenever the power fails. A server that runs keeps the files it opened.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from rlu_server.updates.deciding import Applied
from rlu_server.updates.errors import Misconfigured, NotPossible

CURRENT = "current"
VERSIONS = "versions"
STAGING = "staging"
STATE = "state.json"
MAX_STATE = 1 << 20
KEPT_ENTRIES = 100
VERSION = re.compile(r"(?:\d{6,16}|unnumbered)-[0-9a-f]{16}")

Result = Literal["applied", "current", "failed", "fetched", "held", "rolled_back"]


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A switch."""

    time: int
    version: str
    result: Literal["applied", "rolled_back"]


class Attempt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What became of the last command that could have changed something."""

    time: int
    result: Result
    version: str = ""
    code: str = ""


class State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`state.json`."""

    highest_version: str = ""
    highest_release: int | None = None
    history: list[Entry] = []
    attempt: Attempt | None = None
    last_success: int | None = None
    """When the source was last asked, and what it offers was had or is now."""

    @property
    def highest(self) -> Applied | None:
        return Applied(self.highest_release, self.highest_version) if self.highest_version else None

    @property
    def served(self) -> frozenset[str]:
        """Versions that were ever served here, as far as is remembered."""
        return frozenset(entry.version for entry in self.history)

    def switched(self, entry: Entry, latest: Applied | None) -> State:
        """After a switch. `latest`: the model, if it is now the latest ever applied."""
        changed = msgspec.structs.replace(self, history=[*self.history, entry][-KEPT_ENTRIES:])
        if latest is None:
            return changed
        return msgspec.structs.replace(
            changed, highest_version=latest.version, highest_release=latest.release
        )

    def before(self, current: str | None, there: frozenset[str]) -> str | None:
        """The version that was served before this one, and is still there."""
        served = [entry.version for entry in self.history]
        first = served.index(current) if current in served else len(served)
        return next((one for one in reversed(served[:first]) if one != current and one in there), None)


@dataclass(frozen=True, slots=True)
class Store:
    root: Path

    @classmethod
    def at(cls, model_path: str) -> Store:
        """The store that `[model] path` points into.

        Raises:
            Misconfigured: `update.store`.
        """
        path = Path(model_path).expanduser()
        if path.name != CURRENT or not path.is_absolute():
            raise Misconfigured(
                "update.store",
                f"[model] path is {model_path!r}; updates need a directory of their own, and its `current` as the path: /srv/m/current",
            )
        if path.exists() and not path.is_symlink():
            raise Misconfigured(
                "update.store",
                f"{path} is not a link that updates made; put that model somewhere else, and name a store that is new",
            )
        return cls(path.parent)

    def current(self) -> str | None:
        """The version that `current` leads to; None: there is none yet."""
        try:
            parts = Path(os.readlink(self.root / CURRENT)).parts
        except OSError:
            return None
        return parts[1] if len(parts) == 2 and parts[0] == VERSIONS and VERSION.fullmatch(parts[1]) else None

    def directory(self, version: str) -> Path:
        return self.root / VERSIONS / version

    def versions(self) -> frozenset[str]:
        """Those that are complete."""
        try:
            return frozenset(name for name in os.listdir(self.root / VERSIONS) if VERSION.fullmatch(name))
        except FileNotFoundError:
            return frozenset()

    def state(self) -> State:
        """Raises Misconfigured (`update.state`)."""
        try:
            with (self.root / STATE).open("rb") as file:
                data = file.read(MAX_STATE + 1)
        except FileNotFoundError:
            return State()
        try:
            if len(data) > MAX_STATE:
                raise msgspec.ValidationError("too long")
            return msgspec.json.decode(data, type=State)
        except msgspec.MsgspecError as error:
            raise Misconfigured(
                "update.state",
                f"{self.root / STATE} is damaged: {error}. It guards against going back to older models; look at it, then remove it",
            ) from error

    def write_state(self, state: State) -> None:
        new = self.root / f".{STATE}.new"
        with new.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(state), indent=1) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, self.root / STATE)
        sync(self.root)

    def staging(self, digest: str) -> Path:
        """The place of one model; those of others are removed."""
        place = self.root / STAGING / digest
        for other in (self.root / STAGING).glob("*"):
            if other != place:
                shutil.rmtree(other)
        for part in (place / "parts", place / "model"):
            part.mkdir(parents=True, exist_ok=True)
        return place

    def take(self, staged: Path, version: str) -> None:
        """A staged model, verified, becomes a version."""
        model = staged / "model"
        for folder, _, files in os.walk(model, topdown=False):
            for name in files:
                (Path(folder) / name).chmod(0o644)
            Path(folder).chmod(0o755)
            sync(Path(folder))
        (self.root / VERSIONS).mkdir(exist_ok=True)
        os.rename(model, self.directory(version))
        sync(self.root / VERSIONS)
        self.discard(staged)

    def switch(self, version: str) -> None:
        """What a server that starts will serve."""
        new = self.root / f".{CURRENT}.{secrets.token_hex(4)}"
        new.symlink_to(Path(VERSIONS) / version)
        try:
            os.replace(new, self.root / CURRENT)
        except BaseException:
            new.unlink(missing_ok=True)
            raise
        sync(self.root)

    def prune(self, keep: int, state: State) -> None:
        """Of the versions that were served, only the current one and the `keep` before it stay, and what a server still serves."""
        there, current = self.versions(), self.current()
        latest_first = dict.fromkeys(entry.version for entry in reversed(state.history))
        others = [one for one in latest_first if one in there and one != current]
        for version in others[keep:]:
            self._remove_unused(version)

    def drop_waiting(self, state: State, but: str) -> None:
        """Versions that were fetched before, and never served, give way to a newer one."""
        for version in self.versions() - state.served - {but, self.current()}:
            self._remove_unused(version)

    def remove(self, version: str) -> None:
        self.discard(self._out_of_sight(version))

    def discard(self, staged: Path) -> None:
        shutil.rmtree(staged)

    def _remove_unused(self, version: str) -> None:
        handle = _opened(self.directory(version))
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # With the lock: who gets it afterwards finds the version gone.
            away = self._out_of_sight(version)
        except BlockingIOError:
            return
        finally:
            os.close(handle)
        self.discard(away)

    def _out_of_sight(self, version: str) -> Path:
        """Moved away, so that nobody finds half of it."""
        away = self.root / STAGING / f"removed-{version}"
        away.parent.mkdir(exist_ok=True)
        os.rename(self.directory(version), away)
        return away

    def free(self) -> int:
        """Bytes that may be written here."""
        return shutil.disk_usage(self.root).free

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Raises NotPossible (`update.busy`), OSError."""
        self.root.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise NotPossible("update.busy", f"another update is under way in {self.root}") from error
            yield
        finally:
            os.close(handle)


@contextlib.contextmanager
def serving(directory: Path) -> Iterator[None]:
    """While this lasts, a version is not removed.

    Raises:
        FileNotFoundError: it is not there, or was removed just now.
        OSError: it cannot be locked.
    """
    handle = _opened(directory)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)
        if not os.path.samestat(os.fstat(handle), os.stat(directory)):
            raise FileNotFoundError(errno.ENOENT, "it was removed", str(directory))
        yield
    finally:
        os.close(handle)


def sync(directory: Path) -> None:
    """What was renamed in it stays so."""
    handle = _opened(directory)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _opened(directory: Path) -> int:
    return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
