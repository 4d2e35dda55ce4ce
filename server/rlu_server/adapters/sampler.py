"""What others say about themselves, asked from time to time: the attestor its condition, each engine its load. For metrics only.

Of the engines' metrics three gauges are taken (`load.py`), never a counter: the hits of a prefix cache that all tenants share would
tell one about another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from rlu_server.adapters import load
from rlu_server.adapters.attestor_client import AttestorClient
from rlu_server.adapters.engines import Replica
from rlu_server.attestor.messages import Condition
from rlu_server.core.admission.window import Load
from rlu_server.core.errors import GatewayError
from rlu_server.waiting import within

PERIOD_S = 5.0
TIMEOUT_S = 5.0


class Sampler:
    """Asks while `run` runs.

    Attributes:
        condition: the attestor's, as it said last; None while it cannot be asked.
    """

    def __init__(self, attestor: AttestorClient, replicas: Sequence[Replica]) -> None:
        self.condition: Condition | None = None
        self._attestor = attestor
        self._replicas = replicas

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(PERIOD_S)

    async def look(self) -> None:
        """Ask everybody once."""
        await asyncio.gather(self._look_at_attestor(), *map(self._look_at_engine, self._replicas))

    async def _look_at_attestor(self) -> None:
        try:
            self.condition = await self._attestor.condition()
        except GatewayError:
            self.condition = None

    async def _look_at_engine(self, replica: Replica) -> None:
        if not replica.standing.probed:
            replica.standing.load = None
            return
        answer: asyncio.Future[Load | None] = asyncio.get_running_loop().create_future()
        call = load.ask(replica.engine, lambda found: None if answer.done() else answer.set_result(found))
        try:
            replica.standing.load = await within(answer, TIMEOUT_S)
        finally:
            if not answer.done():
                call.cancel()
