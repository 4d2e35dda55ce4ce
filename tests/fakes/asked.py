"""What `rlu keys` asks of a running attestor."""

from __future__ import annotations

from fakes.attestor_process import Deployment
from rlu_server.attestor import asking
from waiting import until


async def act(deployment: Deployment, action: asking.Action) -> asking.Outcome:
    """Ask, and wait for the answer."""
    directory = deployment.state / "attestation"
    asked = asking.Asked(action, action)
    asking.ask(directory, asked)
    found: list[asking.Outcome | None] = []
    await until(lambda: found.append(asking.answered(directory, asked)) or found[-1], lambda: "no answer")
    assert found[-1] is not None
    return found[-1]
