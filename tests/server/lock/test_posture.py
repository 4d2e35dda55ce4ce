"""Removing any single restriction changes the posture, and what is less than required refuses to start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from locked import Room

from rlu_server.lock import profiles, rlu_lock


def take(*path: str, value: Any = None) -> Callable[[dict[str, Any]], None]:
    """A change of a profile: the member at `path` is removed, or set to `value`."""

    def change(profile: dict[str, Any]) -> None:
        for name in path[:-1]:
            profile = profile[name]
        if value is None:
            del profile[path[-1]]
        else:
            profile[path[-1]] = value

    return change


def drop(kind: str, name: str) -> Callable[[dict[str, Any]], None]:
    """A change that takes one entry out of a list."""

    def change(profile: dict[str, Any]) -> None:
        *path, last = kind.split(".")
        for part in path:
            profile = profile[part]
        profile[last] = [entry for entry in profile[last] if entry != name]

    return change


RESTRICTIONS = {
    # what is left out: (the profile's change, the posture's names that must show it)
    "landlock": (
        take("landlock"),
        {"read_outside", "device_ioctl", "abstract_sockets", "signal_outside", "tcp_connect"},
    ),
    "landlock scope of abstract sockets": (drop("landlock.scopes", "abstract_sockets"), {"abstract_sockets"}),
    "landlock scope of signals": (drop("landlock.scopes", "signals"), {"signal_outside"}),
    "landlock network": (take("landlock", "tcp"), {"tcp_connect", "tcp_bind"}),
    "seccomp": (take("seccomp"), {"call_filter", "calls_debug", "calls_keys"}),
    "seccomp debug": (drop("seccomp.deny", "debug"), {"calls_debug"}),
    "seccomp kernel": (drop("seccomp.deny", "kernel"), {"calls_kernel"}),
    "seccomp mount": (drop("seccomp.deny", "mount"), {"calls_mount"}),
    "seccomp keys": (drop("seccomp.deny", "keys"), {"calls_keys"}),
    "seccomp io_uring": (drop("seccomp.deny", "io_uring"), {"calls_io_uring"}),
    "seccomp attributes": (drop("seccomp.deny", "attributes"), {"calls_attributes"}),
    "seccomp exec": (drop("seccomp.deny", "exec"), {"execute_programs"}),
    "seccomp sockets": (take("seccomp", "sockets"), {"udp", "netlink", "other_sockets"}),
    "seccomp fast open": (take("seccomp", "fast_open"), {"fast_open"}),
    "seccomp namespaces": (take("seccomp", "namespaces"), {"calls_namespaces"}),
    "seccomp terminal": (take("seccomp", "terminal"), {"calls_terminal"}),
    "seccomp dumpable": (take("seccomp", "dumpable"), {"calls_dumpable"}),
    "mounts": (take("mounts"), {"metadata_outside", "unlisted_visible"}),
    "no new privileges": (take("no_new_privileges"), {"no_new_privileges"}),
    "core dumps": (take("core_dumps"), {"core_limit", "core_memory"}),
    "not dumpable": (take("dumpable"), {"dumpable"}),
    "capabilities": (take("capabilities"), {"capabilities", "capability_bounds"}),
    "closed files": (take("close_files"), {"inherited_files"}),
    "clean environment": (take("environment"), {"environment_unlisted"}),
    "end with the supervisor": (take("die_with_parent"), {"dies_with_parent"}),
}


def measure(room: Room) -> dict[str, Any]:
    """With a stray variable and a stray descriptor, which the lock must remove."""
    stray = os.open("/dev/null", os.O_RDONLY)
    try:
        outcome = room.run(environment={"PATH": "/usr/bin:/bin", "STRAY": "1"}, pass_fds=(stray,))
    finally:
        os.close(stray)
    assert outcome.status == 0, outcome.errors
    return outcome.posture


def strict(rooms: Callable[..., Room]) -> Room:
    """The attestor's lock on a network of its own: every restriction there is, at once."""
    room = rooms("attestor")
    room.profile["landlock"]["tcp"] = {"bind": [], "connect": []}
    # With TCP sockets allowed, it is Landlock that decides about binding and connecting.
    room.profile["seccomp"]["sockets"] = ["unix", "tcp"]
    return room


@pytest.mark.parametrize("name", RESTRICTIONS)
def test_every_restriction_shows(name: str, rooms: Callable[..., Room]) -> None:
    change, claims = RESTRICTIONS[name]
    locked = measure(strict(rooms))
    weaker = strict(rooms)
    if name == "no new privileges":
        # Without it only a privileged process may install filters, and this one would have none left.
        weaker.profile.pop("capabilities")
    change(weaker.profile)
    measured = measure(weaker)
    changed = {claim for claim in locked if locked[claim] != measured[claim]}
    assert claims <= changed, f"unchanged: {claims - changed}"


def test_network_namespace_shows(rooms: Callable[..., Room]) -> None:
    room, shared = rooms("engine"), rooms("engine")
    shared.profile["namespaces"].remove("network")
    assert measure(room)["network"] == "loopback"
    assert measure(shared)["network"] == "host"


def test_private_memory_shows(rooms: Callable[..., Room]) -> None:
    room, shared = rooms("engine"), rooms("engine")
    shared.profile["mounts"]["private"] = []
    assert measure(room)["shared_memory"] == "private"
    assert measure(shared)["shared_memory"] == "host"


def test_write_permission_shows(rooms: Callable[..., Room]) -> None:
    """Landlock and the read-only view both stop writing; only without both it is possible."""
    room = rooms("engine")
    assert measure(room)["write_outside_scratch"] is False
    del room.profile["landlock"]
    assert measure(room)["write_outside_scratch"] is False
    del room.profile["mounts"]
    assert measure(room)["write_outside_scratch"] is True


def test_execution_of_dropped_programs_shows(rooms: Callable[..., Room]) -> None:
    room = rooms("engine")
    assert measure(room)["execute_scratch"] is False
    del room.profile["landlock"]
    assert measure(room)["execute_scratch"] is True


def test_truncation_shows(rooms: Callable[..., Room]) -> None:
    room = rooms("engine")
    del room.profile["mounts"]
    assert measure(room)["truncate_outside"] is False
    del room.profile["landlock"]
    assert measure(room)["truncate_outside"] is True


def test_user_shows(rooms: Callable[..., Room]) -> None:
    room = rooms("filter")
    room.profile["other_users"] = [os.getuid()]
    assert measure(room)["uid_shared"] is True
    room.profile["user"] = {"uid": 54321, "gid": 54321}
    posture = measure(room)
    assert posture["uid_shared"] is False
    assert posture["uid"] == 54321


def test_scratch_on_disk_shows(rooms: Callable[..., Room]) -> None:
    room = rooms("engine")
    room.scratch.rmdir()
    room.scratch = room.snippets / "scratch"
    room.scratch.mkdir()
    assert measure(room)["scratch"] == "disk"


@pytest.mark.parametrize("name", ["attestor", "engine", "filter", "gateway"])
def test_packaged_profiles_hold(name: str, rooms: Callable[..., Room]) -> None:
    """With their own requirements, as root and as a user without privileges; the posture fits into the protocol."""
    for user in (None, 65534):
        room = rooms(name, user)
        room.profile["require"] = profiles.packaged(name)["require"]
        outcome = room.run("print('ran', end='')")
        assert (outcome.status, outcome.output) == (0, "ran"), outcome.errors
        assert len(outcome.posture) <= 64
        assert all(len(key) <= 64 for key in outcome.posture)
        assert all(isinstance(v, (bool, int)) or len(v) <= 128 for v in outcome.posture.values())
        assert set(room.profile["require"]) <= set(outcome.posture)


def test_two_starts_measure_the_same(rooms: Callable[..., Room]) -> None:
    """A restart must not change the instance, or its sessions would be closed."""
    assert rooms("engine").run().posture == rooms("engine").run().posture


def test_less_than_required_refuses(room: Room) -> None:
    room.profile["require"] = {"network": "loopback", "scratch": ["disk"], "dumpable": False}
    outcome = room.run("print('ran')")
    assert outcome.status == rlu_lock.EXIT_REFUSED
    assert outcome.output == ""
    assert len(outcome.refused) == 1
    assert outcome.refused[0].startswith("scratch is 'tmpfs', required ['disk']; put scratch on a tmpfs")
    assert "rlu-lock: refused: scratch" in outcome.errors


def test_landlock_minimum_refuses(room: Room) -> None:
    room.profile["landlock"]["minimum_abi"] = 99
    outcome = room.run("print('ran')")
    assert outcome.status == rlu_lock.EXIT_REFUSED
    assert "Landlock ABI 99 is required" in outcome.refused[0]


@pytest.mark.parametrize("member", ["unknown", "Landlock"])
def test_unknown_profile_keys_refuse(room: Room, member: str) -> None:
    room.profile[member] = True
    outcome = room.run("print('ran')")
    assert outcome.status == rlu_lock.EXIT_REFUSED
    assert f"unknown keys {member}" in outcome.refused[0]


def test_undefined_placeholder_refuses(room: Room) -> None:
    room.profile["read"].append("{nowhere}")
    outcome = room.run("print('ran')")
    assert outcome.status == rlu_lock.EXIT_REFUSED
    assert "--define nowhere=" in outcome.refused[0]


def test_a_value_is_not_another_type() -> None:
    """`True` is not 1: a requirement of one is not met by the other."""
    assert rlu_lock.findings({"a": True}, {"a": 1})
    assert rlu_lock.findings({"a": 0}, {"a": False})
    assert rlu_lock.findings({}, {"a": False})
    assert not rlu_lock.findings({"a": "x"}, {"a": ["y", "x"]})


def test_the_program_measures_itself(room: Room) -> None:
    """`probe()` from within the program, after threads, gives what the launcher gave."""
    code = (
        "import json, threading, socket\n"
        "from rlu_server.lock import rlu_lock\n"
        "kept = [socket.socketpair() for _ in range(4)]\n"
        "threading.Thread(target=lambda: None).start()\n"
        "print(json.dumps(rlu_lock.probe()))\n"
    )
    outcome = room.run(code)
    assert json.loads(outcome.output) == outcome.posture


def test_exec_keeps_the_lock_but_not_dumpable(rooms: Callable[..., Room]) -> None:
    """With --exec the kernel forgets only that the process is not dumpable, and the posture says how it runs."""
    room = rooms("engine")
    place = room.snippets / "profile.json"
    place.write_text(json.dumps(room.profile))
    defines = [
        f"--define={n}={v}" for n, v in (("scratch", room.scratch), ("model", room.model), ("readable", ""))
    ]
    posture = room.snippets / "posture.json"
    command = [sys.executable, "-I", "-B", str(profiles.LAUNCHER), "--profile", str(place), *defines]
    command += [
        "--posture",
        str(posture),
        "--exec",
        "/bin/sh",
        "--",
        "-c",
        "ls / ; echo $?; ls /proc/self/fd | wc -l",
    ]
    done = subprocess.run(
        command, env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}, capture_output=True, text=True, timeout=60
    )
    assert json.loads(posture.read_text())["runs"] == "exec"
    assert "Permission denied" in done.stderr
    assert done.stdout.split()[-1] == "4"  # 0, 1, 2 and the directory itself


def test_without_a_root_of_its_own_it_runs_and_says_so(rooms: Callable[..., Room]) -> None:
    """As in a container that forbids mounts: Landlock alone still holds, and the posture tells the difference."""
    room = rooms("gateway")
    room.profile["mounts"]["private"] = ["/dev/null/impossible"]
    room.profile["require"] = profiles.packaged("gateway")["require"]
    outcome = room.run("print('ran', end='')")
    assert (outcome.status, outcome.output) == (0, "ran"), outcome.errors
    assert outcome.posture["unlisted_visible"] is True
    assert outcome.posture["read_outside"] is False
    assert outcome.posture["write_outside_scratch"] is False
