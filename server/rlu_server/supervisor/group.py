"""One of several machines that run an engine together (`[group]`): how it finds the leader, and how all begin anew when one ends.

vLLM's machines of a group cannot be replaced one by one. So a role ends when its engine does, and whoever started it (LeaderWorkerSet)
starts the whole group again.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Any

from rlu_server.models.errors import ManifestError
from rlu_server.settings import Settings
from rlu_server.supervisor.errors import Misconfigured, ServeError, StartFailed, Unavailable
from rlu_server.supervisor.fleet import Fleet, Served

LOOK_S = 2.0
CHECK_S = 30.0


def check(settings: Settings, role: str | None) -> None:
    """Raises Misconfigured: this is not how a group is started."""
    group = settings.group
    if group.nodes > 1 and role is None:
        raise Misconfigured("[group] nodes: several machines are started by role, `rlu serve --role`")
    if group.rank > 0 and role != "engine":
        raise Misconfigured(
            f"[group] rank: gateway and attestor are the leader's; a machine of rank {group.rank} has `--role engine` only"
        )


def leader_address(
    settings: Settings, lookup: Callable[..., list[Any]] = socket.getaddrinfo, pause_s: float = LOOK_S
) -> str:
    """The leader's address, once its name is known: the locked engine looks up no names. Empty where there is no group.

    Raises:
        Unavailable: the name did not appear in the time that the engine has to become ready.
    """
    group = settings.group
    if group.nodes == 1:
        return ""
    deadline = time.monotonic() + settings.engine.ready_timeout_s
    while True:
        try:
            return str(lookup(group.leader, group.port, type=socket.SOCK_STREAM)[0][4][0])
        except OSError as error:
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"[group] leader: {group.leader} is not known to the name service ({error.strerror})"
                ) from error
        time.sleep(pause_s)


async def until_it_ends(fleet: Fleet, served: tuple[Served, ...]) -> None:
    """Returns never.

    Raises:
        ServeError: the engine ended, or its model's files changed.
    """
    children = [service.child.exited for service in fleet.services if service.child is not None]
    while True:
        done, _ = await asyncio.wait(children, timeout=CHECK_S, return_when=asyncio.FIRST_COMPLETED)
        if done:
            status = next(iter(done)).result()
            raise StartFailed(f"the engine ended with status {status}; all machines of its group begin anew")
        for one in served:
            # The leader looked when it had loaded; the others cannot tell when that was.
            try:
                await asyncio.to_thread(one.unchanged.after_loading)
            except (ManifestError, OSError) as error:
                raise _changed(error) from error


def _changed(error: Exception) -> ServeError:
    return StartFailed(f"the model's files: {error}; all machines of its group begin anew")
