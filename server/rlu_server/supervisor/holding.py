"""Who still loads the opened weights of a sealed model: the first holder has them opened, the last one has them wiped.

    decide    held from the decision to start until `begin` takes that over
    hold      the first one opens
    let_go    the last one wipes the weights, unless they are kept

Each start of an engine holds them, and so does the start of the server as a whole, so that several engines load what was opened once. An
engine that is started again later, after the weights were wiped, has them opened again. Who opens is told by the subclasses: a job of this
supervisor's (`weights.py`), or the attestor's container (`handover.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from rlu_server.models.manifest import Manifest

Told = Callable[[str, dict[str, str | int]], None]


class Holding(ABC):
    """One sealed model. Safe for threads; `hold` blocks for as long as opening takes.

    Args:
        place: where its files are when it is open.
        manifest: of the model. Whoever opens it compares every file with it.
        keep: the weights stay until the server ends.
    """

    def __init__(self, place: Path, manifest: Manifest, *, keep: bool) -> None:
        self.place = place
        self.manifest = manifest
        self._keep = keep
        self._lock = threading.Lock()
        self._holders = 0
        self._abandoned = self._decided = False
        self.on_event: Told = lambda name, values: None

    def hold(self) -> None:
        """Have the weights there until `let_go`.

        Raises:
            ServeError: the broker refused, or they could not be opened. They are not held then.
        """
        with self._lock:
            if self._holders == 0 and not self._is_open():
                self._open()
            self._holders += 1

    def decide(self) -> None:
        """`hold`, for whoever starts engines later: `begin` takes it over."""
        self.hold()
        self._decided = True

    def begin(self) -> None:
        """Hold them for a start of engines as a whole; raises as `hold`."""
        if self._decided:
            self._decided = False
        else:
            self.hold()

    def let_go(self) -> None:
        with self._lock:
            self._holders -= 1
            if self._holders == 0 and not self._keep:
                self._wipe()

    @contextlib.asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """`hold` and `let_go`, off the event loop."""
        holding = asyncio.ensure_future(asyncio.to_thread(self.hold))
        try:
            await asyncio.shield(holding)
        except asyncio.CancelledError:
            holding.add_done_callback(self._let_go_later)
            raise
        try:
            yield
        finally:
            await asyncio.shield(asyncio.to_thread(self.let_go))

    def _let_go_later(self, held: asyncio.Future[None]) -> None:
        """Whoever wanted them is gone."""
        if not held.cancelled() and held.exception() is None:
            asyncio.get_running_loop().run_in_executor(None, self.let_go)

    def abandon(self) -> None:
        """The server stops: end an opening that is under way, and begin none."""
        self._abandoned = True

    def resume(self) -> None:
        """Engines are to be started again."""
        self._abandoned = False

    @abstractmethod
    def close(self) -> None:
        """Nobody loads this model any more: leave nothing of it, and give its memory back."""

    @abstractmethod
    def _is_open(self) -> bool:
        """Is every file there?"""

    @abstractmethod
    def _open(self) -> None:
        """Have every file there. Raises ServeError."""

    @abstractmethod
    def _wipe(self) -> None:
        """Have no weights there."""
