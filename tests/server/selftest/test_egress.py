"""Nothing gets out of a locked process; and what would get out with a restriction missing is found."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rlu_server.lock import profiles
from rlu_server.lock.profiles import Additions
from rlu_server.selftest import egress
from rlu_server.selftest.egress import SUCCEEDED, UNLOCKED, Subject, Table

ROLES = ("engine", "gateway", "attestor", "filter")
OF_THE_KERNEL = {
    "kernel_crypto",
    "mptcp",
    "vsock",
    "bpf",
    "perf",
    "io_uring",
    "user_faults",
    "type_into_terminal",
}
"""What a kernel may be built without. Everything else must be shown to work here, or this file shows nothing."""


@pytest.fixture
def subjects() -> Iterator[Callable[..., Subject]]:
    made: list[Path] = []

    def make(role: str, **more: object) -> Subject:
        scratch = Path(tempfile.mkdtemp(prefix="rlu-egress-", dir="/dev/shm"))
        files = Path(tempfile.mkdtemp(prefix="rlu-egress-files-"))
        made.extend((scratch, files))
        (files / "weights").write_bytes(b"weights")
        places = {
            **dict.fromkeys(("tpm", "evidence_devices", "tpm_sockets", "peers"), ()),
            **dict.fromkeys(("scratch", "state"), (scratch,)),
            **dict.fromkeys(("config", "readable", "model"), (files,)),
        }
        variables = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
        additions = Additions(environment=variables, places=places, **more)  # type: ignore[arg-type]
        return Subject(role, Path(sys.executable), additions, scratch, files / "weights")

    yield make
    for place in made:
        shutil.rmtree(place, ignore_errors=True)


def test_nothing_gets_out(subjects: Callable[..., Subject]) -> None:
    """Every process, in the form `rlu serve` gives it: a port of its own for the gateway, one to connect to for the attestor."""
    table = egress.run(
        [
            subjects("engine"),
            subjects("gateway", bind_ports=(65123,)),
            subjects("attestor", connect_ports=(65124,)),
        ]
    )
    assert set(table.to_json()["not_shown"]) <= OF_THE_KERNEL
    assert {role: table.got_out(role) for role in table.roles} == {
        "engine": [],
        "gateway": [],
        "attestor": [],
    }
    assert {table.to_json()["held"][role] for role in table.roles} == {len(table.shown())}
    assert table.closed
    assert {posture["profile"] for posture in table.postures.values()} == set(table.roles)


HOLES: dict[str, tuple[str, Callable[[dict[str, object]], object], set[str]]] = {
    # a restriction that is missing: (of whom, how it is taken out, what at least gets out)
    "network": (
        "engine",
        lambda p: p["namespaces"].remove("network"),
        {"tcp", "udp", "dns", "tcp_elsewhere"},
    ),  # type: ignore[attr-defined]
    "ipc": ("engine", lambda p: p["namespaces"].remove("ipc"), {"system_v_messages"}),  # type: ignore[attr-defined]
    "landlock": ("gateway", lambda p: p.pop("landlock"), {"tcp", "signal_others"}),
    "fast open": ("gateway", lambda p: p["seccomp"].update(fast_open=True), {"tcp_fast_open"}),  # type: ignore[attr-defined]
    "own root": ("gateway", lambda p: p.pop("mounts"), {"unix_socket", "attestor_socket", "keep_in_times"}),
    "sockets": ("gateway", lambda p: p["seccomp"].pop("sockets"), {"udp", "dns", "mptcp"}),  # type: ignore[attr-defined]
    "programs": ("filter", lambda p: p["seccomp"]["deny"].remove("exec"), {"run_from_memory"}),  # type: ignore[index]
    "filter": ("gateway", lambda p: p.pop("seccomp"), {"keep_key", "become_dumpable", "udp"}),
}


@pytest.mark.parametrize("hole", HOLES)
def test_a_hole_is_found(
    hole: str, subjects: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    role, open_up, expected = HOLES[hole]
    compose = profiles.compose

    def composed(name: str, additions: Additions) -> dict[str, object]:
        profile = compose(name, additions)
        profile["require"] = {}
        # The attempts read where their targets are.
        profile["read"].append(str(subject.scratch))
        open_up(profile)
        return profile

    monkeypatch.setattr(profiles, "compose", composed)
    subject = subjects(role)
    table = egress.run([subject])
    out = {name for name, said in table.results[role].items() if said == SUCCEEDED}
    possible = expected & set(table.shown())
    assert possible
    assert possible <= out
    assert not table.closed or out <= egress.BY_DESIGN[role]


def test_a_lock_that_refuses_is_an_error(subjects: Callable[..., Subject]) -> None:
    with pytest.raises(
        egress.LockFailed, match=r"engine: ended with status 77: .*Landlock ABI 99 is required"
    ):
        egress.run([subjects("engine", minimum_abi=99)])


def test_the_table_counts() -> None:
    table = Table(
        {
            UNLOCKED: {"tcp": SUCCEEDED, "attestor_socket": SUCCEEDED, "bpf": "ENOSYS"},
            "gateway": {"tcp": "EACCES", "attestor_socket": SUCCEEDED, "bpf": "EPERM"},
            "engine": {"tcp": SUCCEEDED, "attestor_socket": "ENOENT", "bpf": "EPERM"},
        }
    )
    assert table.shown() == ["tcp", "attestor_socket"]
    assert (table.got_out("gateway"), table.got_out("engine")) == ([], ["tcp"])
    assert not table.closed
    said = table.to_json()
    assert (said["attempts"], said["shown"], said["not_shown"]) == (3, 2, ["bpf"])
    assert said["held"] == {"gateway": 1, "engine": 1}
    assert table.lines()[-1] == "engine: 1 of 2 held; NOT CLOSED: tcp."
    assert table.lines()[-2] == "gateway: 1 of 2 held; closed."


def test_nothing_shown_is_not_closed() -> None:
    assert not Table({UNLOCKED: {"tcp": "ENOSYS"}, "engine": {"tcp": "EPERM"}}).closed
