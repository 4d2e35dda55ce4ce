"""Several machines that run one engine: what each is given, what refuses, and that all begin anew when one ends."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from deployment import make_settings

from rlu_server.engine import arguments, launch
from rlu_server.engine.arguments import ArgumentRefused
from rlu_server.models.errors import ManifestError
from rlu_server.settings import Settings
from rlu_server.supervisor import group, prepare, runtime
from rlu_server.supervisor.errors import Misconfigured, StartFailed, Unavailable
from rlu_server.supervisor.fleet import Fleet
from rlu_server.supervisor.plan import Host

LEADER = "rlu-nodes-0.rlu-nodes.rlu"


def settings_of(directory: Path, rank: int = 0, **more: Any) -> Settings:
    made = make_settings(directory).model_dump(exclude_unset=True)
    made["lock"] = {"engine_network": "shared"}
    made["group"] = {"nodes": 2, "rank": rank, "leader": LEADER}
    return Settings.model_validate({**made, **more})


def start(directory: Path, settings: Settings, leader: str = "10.1.2.3") -> launch.EngineStart:
    return launch.plan(
        settings,
        model=directory / "m",
        name="m",
        runtime=directory,
        python=Path("/usr/bin/python3"),
        device="cpu",
        leader=leader,
    )


def test_one_leads_and_listens_and_the_others_do_not(tmp_path: Path) -> None:
    leader, other = (start(tmp_path, settings_of(tmp_path, rank)) for rank in (0, 1))
    given = ["--nnodes", "2", "--node-rank", "{}", "--master-addr", "10.1.2.3", "--master-port", "29500"]
    for one, rank, module in ((leader, "0", arguments.ENTRY_MODULE), (other, "1", arguments.HEADLESS_MODULE)):
        wanted = [word.format(rank) for word in given]
        at = one.arguments.index("--nnodes")
        assert list(one.arguments[at : at + len(wanted)]) == wanted
        assert one.module == module
        assert ("--headless" in one.arguments) == (rank == "1") == (not one.listens)
    assert (launch.INSIDE / f"{arguments.HEADLESS_MODULE}.py").is_file()
    # Its text is shown until that path is there: with the others, which nobody tells when clients come, never.
    assert other.environment["RLU_ENGINE_SERVING"] == str(other.scratch)
    assert leader.environment["RLU_ENGINE_SERVING"] == str(leader.socket)


def test_an_address_of_this_start_is_not_stated(tmp_path: Path) -> None:
    one, other = (start(tmp_path, settings_of(tmp_path), at) for at in ("10.1.2.3", "fd00::7"))
    assert one.stated_arguments(tmp_path) == other.stated_arguments(tmp_path)
    assert "{leader}" in one.stated_arguments(tmp_path)


def test_alone_nothing_is_given(tmp_path: Path) -> None:
    made = start(tmp_path, make_settings(tmp_path), "")
    assert not {"--nnodes", "--headless", "--master-addr"} & set(made.arguments)
    assert made.listens


def test_the_statement_says_how_many_there_are(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    settings = settings.model_copy(
        update={"group": settings.group.model_copy(update={"leader": "localhost"})}
    )
    place = runtime.create(None)
    try:
        deployment = prepare.deployment(settings, place, {}, None, "engine")
        stated: list[dict[str, Any]] = []
        fleet = Fleet(
            deployment.settings,
            deployment.served,
            place,
            Host(Path("/usr/bin/python3"), {}),
            0,
            lambda *_: None,
            lambda *_: None,
            stated.append,
            tmp_path,
        )
        fleet._note_posture(deployment.engine, {"swap": "off"})
        assert stated == [{"swap": "off", "nodes": 2}]
        assert {"127.0.0.1", "::1"} & set(deployment.engine.arguments)
    finally:
        place.remove()


@pytest.mark.parametrize("name", ["--nnodes", "--node-rank", "--master-addr", "--headless"])
def test_an_operator_cannot_give_them_himself(name: str) -> None:
    with pytest.raises(ArgumentRefused):
        arguments.check([name, "2"])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"group": {"nodes": 2, "rank": 2, "leader": "a"}}, "rank 2 of 2 nodes"),
        ({"group": {"nodes": 2}}, "need leader"),
        ({"lock": {"engine_network": "namespace"}}, "engine_network"),
        ({"engine": {"replicas": 2}}, "run one engine"),
    ],
)
def test_what_contradicts_is_refused(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        settings_of(tmp_path, **changes)


@pytest.mark.parametrize(("rank", "role"), [(0, None), (1, None), (1, "gateway"), (1, "attestor")], ids=str)
def test_roles_that_a_machine_does_not_have(tmp_path: Path, rank: int, role: str | None) -> None:
    settings = settings_of(tmp_path, rank)
    place = runtime.create(None)
    try:
        with pytest.raises(Misconfigured, match=r"\[group\]"):
            prepare.deployment(settings, place, {}, None, role)
    finally:
        place.remove()
    for fine in ("engine",) if rank else ("engine", "gateway", "attestor"):
        group.check(settings, fine)


def test_the_leader_is_looked_for_until_it_has_an_address(tmp_path: Path) -> None:
    asked: list[tuple[Any, ...]] = []

    def lookup(*what: Any, **_: Any) -> list[Any]:
        asked.append(what)
        if len(asked) < 3:
            raise socket.gaierror(-2, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.1.2.3", 29500))]

    assert group.leader_address(settings_of(tmp_path), lookup, 0.0) == "10.1.2.3"
    assert asked == [(LEADER, 29500)] * 3
    assert group.leader_address(make_settings(tmp_path), lookup) == ""

    def nobody(*_: Any, **__: Any) -> list[Any]:
        raise socket.gaierror(-2, "Name or service not known")

    hasty = settings_of(tmp_path, engine={"ready_timeout_s": 0.01})
    with pytest.raises(Unavailable, match=LEADER):
        group.leader_address(hasty, nobody, 0.02)


async def test_when_one_engine_ends_its_role_does() -> None:
    exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    fleet: Any = SimpleNamespace(services=[SimpleNamespace(child=SimpleNamespace(exited=exited))])
    ending = asyncio.create_task(group.until_it_ends(fleet, ()))
    exited.set_result(137)
    with pytest.raises(StartFailed, match="137"):
        await ending


async def test_a_model_that_changes_ends_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def changed() -> None:
        raise ManifestError("model.changed_while_loading", "something wrote to the model")

    monkeypatch.setattr(group, "CHECK_S", 0.01)
    exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    fleet: Any = SimpleNamespace(services=[SimpleNamespace(child=SimpleNamespace(exited=exited))])
    served: Any = SimpleNamespace(unchanged=SimpleNamespace(after_loading=changed))
    with pytest.raises(StartFailed, match="something wrote"):
        await group.until_it_ends(fleet, (served,))
