"""The moment in which the attestor's connection ends, on the loop that the gateway runs on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import uvloop

from rlu_server.adapters.attestor_client import _Link
from rlu_server.attestor import messages


class Late(_Link):
    """Is asked for something in that moment."""

    def __init__(self) -> None:
        super().__init__(lambda welcome: None)
        self.answers: list[object] = []

    def connection_lost(self, error: Exception | None) -> None:
        self.send(messages.History(id=1), self.answers.append)
        super().connection_lost(error)


def test_what_is_asked_in_that_moment_is_told_that_nobody_answers(tmp_path: Path) -> None:
    async def talk() -> tuple[list[object], list[dict[str, Any]]]:
        loop = asyncio.get_running_loop()
        errors: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, context: errors.append(context))
        path = str(tmp_path / "socket")
        server = await asyncio.start_unix_server(lambda _, writer: writer.close(), path)
        link = Late()
        await loop.create_unix_connection(lambda: link, path)
        await asyncio.wait_for(link.ended, 60)
        link.abandon()
        await asyncio.sleep(0)  # what was to be written was so, or not
        server.close()
        await server.wait_closed()
        return link.answers, errors

    assert uvloop.run(talk()) == ([None], [])
