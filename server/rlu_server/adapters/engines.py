"""The engines behind one gateway: which of them a request goes to, and when it may go a second time.

A request goes to a *proven* engine of its model: one whose present start was asked and honours salts (`prober.py`). As soon as a connection
ends or cannot be made, and that was not our doing, the engine is no longer proven, for it may have been replaced by another version;
requests go to another replica, or wait until it was looked at. Each request names the start of the engine that was proven, and
`engine.Engine` lets it through to no other.

A request is sent again only if not a byte of an answer came:

| what happened | what follows |
|---|---|
| it could not be sent | it goes to another replica, or waits for one that is being looked at |
| the connection ended, which had been kept idle | the same, once: the engine had closed it, or was ended |
| the connection ended, which was made for it | it goes to a replica that has not had it, once |
| anything after the first byte | nothing: the exchange ends as it is |

The bound matters: a request that brings engines down brings down two.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlu_server.adapters.engine import Call, Engine, Generation, Handler, post_head
from rlu_server.adapters.events import Events
from rlu_server.adapters.measures import Measures, Readiness, Standing
from rlu_server.core.errors import GatewayError
from rlu_server.core.placement import place

MAX_ATTEMPTS = 4
"""So often a request is handed to an engine, whatever happens."""


@dataclass(frozen=True, slots=True)
class Served:
    """One engine: its name, the same at every start; the model; the socket."""

    name: str
    model: str
    socket: Path


@dataclass(slots=True, eq=False)
class Replica:
    """One engine, what is known of it, and how to have it looked at."""

    engine: Engine
    standing: Standing
    wake: Callable[[], None] = lambda: None
    """Look at it now; set by who does."""
    proven: Generation | None = None
    seen: Generation | None = None
    """The start that was looked at last, whatever came out."""


class _Placed(Call):
    """A client's request."""

    __slots__ = ("attempts", "had_by", "key", "lost", "model", "waits_in")

    def __init__(self, handler: Handler, head: bytes, body: bytes, model: str, key: bytes) -> None:
        super().__init__(handler, head, body)
        self.model = model
        self.key = key
        self.attempts = 0
        self.lost: GatewayError | None = None
        self.had_by: Replica | None = None
        self.waits_in: dict[_Placed, None] | None = None

    def cancel(self) -> None:
        super().cancel()
        if self.waits_in is not None:
            self.waits_in.pop(self, None)


class Engines:
    """All engines of a gateway; needs a running loop."""

    def __init__(
        self, served: Sequence[Served], readiness: Readiness, measures: Measures, events: Events
    ) -> None:
        self._readiness = readiness
        self._measures = measures
        self._events = events
        self._loop = asyncio.get_running_loop()
        self.replicas = [Replica(Engine(one.socket, self), Standing(one.name, one.model)) for one in served]
        readiness.engines = [replica.standing for replica in self.replicas]
        self._of_model: dict[str, list[Replica]] = {}
        for replica in self.replicas:
            self._of_model.setdefault(replica.standing.model, []).append(replica)
        self._waiting: dict[str, dict[_Placed, None]] = {model: {} for model in self._of_model}
        self._of_engine = {replica.engine: replica for replica in self.replicas}

    # --- the relay's side ---

    def check_any(self, path: str) -> None:
        """Could some model take a request to this route now? Raises GatewayError: the engines' lack, or `route_not_found`."""
        self._check(self.replicas, path)

    def check(self, model: str, path: str) -> None:
        """Could this one? Raises GatewayError as above."""
        self._check(self._of_model[model], path)

    def post(
        self, model: str, key: bytes, path: str, body: bytes, handler: Handler, lines: bytes = b""
    ) -> Call:
        """Send a request; the handler is called later, never from within this call.

        Args:
            key: of the conversation: what has the same goes to the same replica, if it can.
            lines: further header lines.
        """
        call = _Placed(handler, post_head(path, len(body), lines), body, model, key)
        if not self._dispatch(call):
            self._loop.call_soon(self._give_up, call)
        return call

    def serving(self, model: str) -> list[Engine]:
        """The engines of a model that take requests now."""
        return [replica.engine for replica in self._of_model[model] if replica.standing.probed]

    def close(self) -> None:
        """End every connection, and with it every request."""
        for replica in self.replicas:
            replica.engine.close()
        for waiting in self._waiting.values():
            waiting.clear()

    def tick(self, now: float) -> None:
        """Close what has been idle too long. `now` is the loop's time."""
        for replica in self.replicas:
            replica.engine.tick(now)

    # --- the prober's side ---

    def proven(self, replica: Replica, generation: Generation, absent: frozenset[str]) -> None:
        """This start of it was asked, and honours salts."""
        standing = replica.standing
        replica.proven = generation
        standing.absent, standing.alive, standing.probed = absent, True, True
        self._readiness.note()
        self._settled(replica)

    def unproven(self, replica: Replica, *, alive: bool) -> None:
        """It is away, or ignores salts."""
        replica.proven = None
        replica.standing.alive, replica.standing.probed = alive, False
        self._settled(replica)

    # --- the engines' side ---

    def engine_suspect(self, engine: Engine) -> None:
        replica = self._of_engine[engine]
        if replica.standing.probed:
            replica.proven = None
            replica.standing.probed = False
            self._events.emit("engine_suspect", engine=replica.standing.name)
            self._look_at(replica)

    def engine_unanswered(self, engine: Engine, call: Call, error: GatewayError, *, reused: bool) -> None:
        if not isinstance(call, _Placed):  # the prober's own
            if call.handler is not None:
                call.handler.engine_failed(error)
            return
        if error.code == "engine_lost":
            again, call.lost = call.lost is None, error
            if not reused:
                call.had_by = self._of_engine[engine]
            if not again:
                self._give_up(call)
                return
        if self._dispatch(call):
            self._measures.engine_retries += 1
            self._events.emit("engine_retried", error.code, engine=self._of_engine[engine].standing.name)
        else:
            self._give_up(call)

    # --- inside ---

    def _check(self, replicas: Sequence[Replica], path: str) -> None:
        offered = True
        for replica in replicas:
            if replica.standing.probed:
                if path not in replica.standing.absent:
                    return
                offered = False
        if not offered:
            raise GatewayError("route_not_found", "The model that is served here does not offer this route.")
        if not self._hopeful(replicas):
            raise GatewayError(Readiness.lacking(replica.standing for replica in replicas))

    def _dispatch(self, call: _Placed) -> bool:
        """Hand a request to an engine, or have it wait for one; False: there is none."""
        if call.attempts >= MAX_ATTEMPTS:
            return False
        candidates = self._of_model[call.model]
        if call.had_by is not None:
            candidates = [one for one in candidates if one is not call.had_by]
        replica = _chosen(candidates, call.key)
        if replica is not None:
            call.attempts += 1
            call.generation = replica.proven
            replica.engine.send(call)
            return True
        if self._hopeful(candidates):
            call.waits_in = self._waiting[call.model]
            call.waits_in[call] = None
            return True
        return False

    def _hopeful(self, replicas: Iterable[Replica]) -> bool:
        """Is any of them being looked at? One with a start that was not looked at yet is, from now on."""
        for replica in replicas:
            standing = replica.standing
            if not (standing.probed or standing.proving):
                there = replica.engine.generation()
                if there is not None and there != replica.seen:
                    self._look_at(replica)
            if standing.proving:
                return True
        return False

    def _look_at(self, replica: Replica) -> None:
        replica.standing.proving = True
        replica.wake()

    def _settled(self, replica: Replica) -> None:
        """A look is over: those who waited for it go on, one way or the other."""
        replica.standing.proving = False
        model = replica.standing.model
        waiting, self._waiting[model] = self._waiting[model], {}
        for call in list(waiting):  # one that fails may take others along
            if call.handler is not None and not self._dispatch(call):
                self._give_up(call)

    def _give_up(self, call: _Placed) -> None:
        if call.handler is not None:
            # What an engine may have seen was forwarded, whatever happened to the tries after it.
            call.handler.engine_failed(call.lost or GatewayError(self._lacking(call.model)))

    def _lacking(self, model: str) -> str:
        return Readiness.lacking(replica.standing for replica in self._of_model[model])


def _chosen(replicas: Sequence[Replica], key: bytes) -> Replica | None:
    """The replica for the next request of a conversation; None: none can take one."""
    if len(replicas) == 1:  # as nearly everywhere
        return replicas[0] if replicas[0].standing.probed else None
    proven = {one.standing.name: one for one in replicas if one.standing.probed}
    if not proven:
        return None
    return proven[place(key, {name: one.engine.running for name, one in proven.items()})]
