"""Removing any single restriction changes the posture, and what is less than required refuses to start."""

from __future__ import annotations

import copy
import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from locked import Room

from rlu_server.lock import profiles, rlu_lock
from rlu_server.lock.profiles import Additions


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


LANDLOCK = {"abstract_sockets", "device_ioctl", "read_outside", "signal_outside", "tcp_bind", "tcp_connect"}
CALLS = {f"calls_{group}" for group in rlu_lock._GROUP_TRIALS}
FILTER = {
    *CALLS,
    *("call_filter", "calls_dumpable", "calls_namespaces", "calls_terminal", "execute_programs", "fast_open"),
    *("netlink", "other_sockets", "udp", "execute_memory"),
}
RESTRICTIONS: dict[str, tuple[Callable[[dict[str, Any]], None], set[str]]] = {
    # what is left out: (the profile's change, the posture's names that then have another value: these and no other)
    "landlock": (take("landlock"), LANDLOCK),
    "landlock scope of abstract sockets": (drop("landlock.scopes", "abstract_sockets"), {"abstract_sockets"}),
    "landlock scope of signals": (drop("landlock.scopes", "signals"), {"signal_outside"}),
    "landlock network": (take("landlock", "tcp"), {"tcp_connect", "tcp_bind"}),
    "seccomp": (take("seccomp"), FILTER),
    "seccomp debug": (drop("seccomp.deny", "debug"), {"calls_debug"}),
    "seccomp kernel": (drop("seccomp.deny", "kernel"), {"calls_kernel"}),
    "seccomp mount": (drop("seccomp.deny", "mount"), {"calls_mount"}),
    "seccomp keys": (drop("seccomp.deny", "keys"), {"calls_keys"}),
    "seccomp io_uring": (drop("seccomp.deny", "io_uring"), {"calls_io_uring"}),
    "seccomp attributes": (drop("seccomp.deny", "attributes"), {"calls_attributes"}),
    "seccomp ipc": (drop("seccomp.deny", "ipc"), {"calls_ipc"}),
    "seccomp exec": (drop("seccomp.deny", "exec"), {"execute_programs", "execute_memory"}),
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
    "locked memory": (take("lock_memory"), {"memory_locked"}),
    "closed files": (take("close_files"), {"inherited_files"}),
    "clean environment": (take("environment"), {"environment_unlisted"}),
    "end with the supervisor": (take("die_with_parent"), {"dies_with_parent"}),
}
ELSEWHERE = {
    # Members of profiles that are no restriction, or whose test is further down.
    *(
        "name",
        "read",
        "execute",
        "write",
        "devices",
        "ioctl_devices",
        "visible",
        "umask",
        "scratch",
        "require",
    ),
    *("namespaces", "own_processes"),
}


def lockable() -> bool:
    """Whether this machine lets a process lock all its memory: no limit on it, or the right to lift that."""
    limits = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY,) * 2)
    except (ValueError, OSError):
        return limits[0] == resource.RLIM_INFINITY
    resource.setrlimit(resource.RLIMIT_MEMLOCK, limits)
    return True


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
        claims = claims | {"capabilities", "capability_bounds"}
    change(weaker.profile)
    measured = measure(weaker)
    changed = {claim for claim in locked if locked[claim] != measured[claim]}
    assert changed == (claims if name != "locked memory" or lockable() else set())


def test_no_restriction_is_without_a_test(rooms: Callable[..., Room]) -> None:
    """Every member of every profile, every group of calls and every scope is taken out by some test."""
    everything = strict(rooms).profile
    for change, _ in RESTRICTIONS.values():
        left = copy.deepcopy(everything)
        change(left)
        assert left != everything
    taken = {"landlock", "minimum_abi"} | ELSEWHERE
    for name in profiles.NAMES:
        profile = profiles.packaged(name)
        for kind, members in (
            ("", profile),
            ("landlock", profile["landlock"]),
            ("seccomp", profile["seccomp"]),
        ):
            for member in members:
                left = copy.deepcopy(everything)
                inside = left[kind] if kind else left
                inside.pop(member, None)
                alone = [
                    change for change, _ in RESTRICTIONS.values() if changed_alike(change, everything, left)
                ]
                assert alone or member in taken or member in ("deny", "scopes"), f"{kind}.{member}"
        groups = {*profile["seccomp"]["deny"], *profile["landlock"]["scopes"]}
        assert groups <= {g for n in RESTRICTIONS for g in (n.split()[-1], "_".join(n.split()[-2:]))} | {
            "exec"
        }


def changed_alike(
    change: Callable[[dict[str, Any]], None], before: dict[str, Any], after: dict[str, Any]
) -> bool:
    changed = copy.deepcopy(before)
    change(changed)
    return changed == after


RIGHTS: dict[str, tuple[int, set[str]]] = {
    # of Landlock (include/uapi/linux/landlock.h): (its bit, what the posture then says is possible)
    "execute": (0, {"execute_scratch"}),
    "write_file": (1, {"changes_outside"}),
    "read_file": (2, {"read_outside"}),
    "read_dir": (3, {"read_outside"}),
    "remove_dir": (4, {"changes_outside"}),
    "remove_file": (5, {"changes_outside"}),
    "make_char": (6, {"changes_outside"}),
    "make_dir": (7, {"changes_outside"}),
    "make_reg": (8, {"changes_outside"}),
    "make_sock": (9, {"changes_outside"}),
    "make_fifo": (10, {"changes_outside"}),
    "make_block": (11, {"changes_outside"}),
    "make_sym": (12, {"changes_outside"}),
    # 13, "refer": what does not handle it has less, not more (Documentation/userspace-api/landlock.rst).
    "truncate": (14, {"truncate_outside"}),
    "ioctl_dev": (15, {"device_ioctl"}),
}


@pytest.mark.parametrize("right", RIGHTS)
def test_every_landlock_right_shows(right: str, rooms: Callable[..., Room]) -> None:
    """Where there is no root of its own and no user without rights: Landlock stands alone, and lets one right go."""
    bit, claims = RIGHTS[right]
    rooms_made = rooms("engine"), rooms("engine")
    for room in rooms_made:
        del room.profile["mounts"]
        del room.profile["own_processes"]
        room.profile["capabilities"] = None  # making block devices takes one
    full, lacking = rooms_made
    listed = 'kinds["ioctl_devices"] = device | _FS_IOCTL_DEV\n'
    # What is made stays, since nothing may be removed: in the directory of the changed launcher, which is not ours to keep.
    place = str(lacking.snippets) if right.startswith("make") else "/"
    lacking.change_launcher(listed, f"{listed}    yield {place!r}, {1 << bit}\n")
    locked, measured = measure(full), measure(lacking)
    assert {claim for claim in locked if locked[claim] != measured[claim]} == claims
    if claims == {"changes_outside"}:
        assert (locked["changes_outside"], measured["changes_outside"]) == ("none", right)


def test_every_right_of_the_kernels_landlock_is_asked_for() -> None:
    """Upward with the ABI, and none that it does not know."""
    known = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16, 6: 16, 7: 16, 99: 16}
    assert {abi: rlu_lock._fs_rights(abi) for abi in known} == {abi: (1 << n) - 1 for abi, n in known.items()}
    assert {bit for bit, _ in RIGHTS.values()} | {13} == set(range(16))


def trial(group: str, left_out: str) -> str:
    """What `calls_<group>` says in a process whose filter denies the group without one call."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            names = tuple(n for n in rlu_lock.DENY_GROUPS[group] if n != left_out)
            rlu_lock.DENY_GROUPS[group] = names
            rlu_lock._prctl(rlu_lock._PR_SET_NO_NEW_PRIVS, 1)
            rlu_lock._apply_seccomp({"deny": [group]})
            os.write(writing, rlu_lock._trial_group(group).encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as pipe:
        return pipe.read()


@pytest.mark.parametrize("group", [group for group in rlu_lock.DENY_GROUPS if group != "exec"])
def test_every_denied_call_shows(group: str) -> None:
    """Each call that the kernel has and lets this user make: left out of the filter, it is what the posture names."""
    names = rlu_lock.DENY_GROUPS[group]
    trials = rlu_lock._GROUP_TRIALS[group]
    assert set(names) - rlu_lock.UNTRIED == set(trials)
    assert trial(group, "") == "none"
    possible = {name for name, arguments in trials.items() if rlu_lock._try_call(name, arguments)}
    assert possible, "the kernel has none of them; this test shows nothing"
    for name in trials:
        assert trial(group, name) == (name if name in possible else "none")


def test_network_and_ipc_namespaces_show(rooms: Callable[..., Room]) -> None:
    own = measure(rooms("engine"))
    assert (own["network"], own["ipc"]) == ("loopback", "private")
    for kind, claims in (("network", {"network"}), ("ipc", {"ipc"})):
        shared = rooms("engine")
        shared.profile["namespaces"].remove(kind)
        measured = measure(shared)
        assert {claim for claim in own if own[claim] != measured[claim]} == claims
        assert measured[kind] == "host"


def test_process_namespace_shows(rooms: Callable[..., Room]) -> None:
    room, shared = rooms("engine"), rooms("engine")
    del shared.profile["own_processes"]
    own, measured = measure(room), measure(shared)
    assert (own["processes"], measured["processes"]) == ("own", "shared")
    # Programs in memory are forbidden by namespace.
    assert {claim for claim in own if own[claim] != measured[claim]} == {"processes", "execute_memory"}
    assert own["execute_memory"] is False


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


def test_locked_memory_is_measured() -> None:
    """By itself, because few machines let a test lock all its memory."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            before = rlu_lock._probe_memory()["memory_locked"]
            page = ctypes.create_string_buffer(4096)
            assert rlu_lock._libc.mlock(page, 4096) == 0
            os.write(writing, json.dumps([before, rlu_lock._probe_memory()["memory_locked"]]).encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as pipe:
        assert json.load(pipe) == [False, True]


SWAPS = "Filename Type Size Used Priority\n"


@pytest.mark.parametrize(
    ("files", "state"),
    [
        ({"proc/swaps": SWAPS}, "off"),
        ({"proc/swaps": SWAPS + "/dev/sda2 partition 1 0 -2\n"}, "on"),
        ({"proc/swaps": SWAPS + "/dev/sda2 x 1 0 -2\n", "sys/module/zswap/parameters/enabled": "N\n"}, "on"),
        (
            {"proc/swaps": SWAPS + "/dev/sda2 x 1 0 -2\n", "sys/module/zswap/parameters/enabled": "Y\n"},
            "zswap",
        ),
        ({"proc/swaps": SWAPS + "/dev/zram0 x 1 0 5\n", "sys/block/zram0/backing_dev": "none\n"}, "zram"),
        ({"proc/swaps": SWAPS + "/dev/zram0 x 1 0 5\n", "sys/block/zram0/backing_dev": "/dev/sdb\n"}, "on"),
        (
            {
                "proc/swaps": SWAPS + "/dev/zram0 x 1 0 5\n/dev/sda2 x 1 0 -2\n",
                "sys/block/zram0/backing_dev": "none\n",
            },
            "on",
        ),
        (
            {
                "proc/swaps": SWAPS + "/dev/sda2 x 1 0 -2\n",
                "proc/self/cgroup": "0::/rlu.service\n",
                "sys/fs/cgroup/rlu.service/memory.swap.max": "0\n",
            },
            "cgroup-off",
        ),
        (
            {
                "proc/swaps": SWAPS + "/dev/sda2 x 1 0 -2\n",
                "proc/self/cgroup": "0::/rlu.service\n",
                "sys/fs/cgroup/rlu.service/memory.swap.max": "max\n",
            },
            "on",
        ),
    ],
)
def test_swap_shows(files: dict[str, str], state: str, tmp_path: Path, rooms: Callable[..., Room]) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert rlu_lock.swap_state(str(tmp_path)) == state
    accepted = state in profiles.packaged("engine")["require"]["swap"]
    assert accepted == (state in ("off", "cgroup-off", "zram"))


def test_scratch_on_disk_shows(rooms: Callable[..., Room]) -> None:
    room = rooms("engine")
    room.scratch.rmdir()
    room.scratch = room.snippets / "scratch"
    room.scratch.mkdir()
    assert measure(room)["scratch"] == "disk"


@pytest.mark.parametrize("name", profiles.NAMES)
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


def test_every_requirement_refuses_with_a_remedy(rooms: Callable[..., Room]) -> None:
    """One by one: the value that the profile asks for is held against another one."""
    for name in profiles.NAMES:
        for claim, wanted in profiles.packaged(name)["require"].items():
            held = wanted[0] if isinstance(wanted, list) else wanted
            other = (not held) if isinstance(held, bool) else 7 if isinstance(held, int) else "something"
            (finding,) = rlu_lock.findings({claim: other}, {claim: wanted})
            assert (finding.name, finding.measured) == (claim, other)
            assert len(finding.remedy) > 20
            assert not rlu_lock.findings({claim: held}, {claim: wanted})


def test_what_the_profile_takes_out_is_then_refused(rooms: Callable[..., Room]) -> None:
    """As a changed profile would be: the restriction is gone, the requirement is not."""
    required = profiles.packaged("attestor")["require"]
    for name, (change, claims) in RESTRICTIONS.items():
        if not claims & required.keys() or name in ("no new privileges", "clean environment", "closed files"):
            continue  # the second and third take a stray variable and file, above
        room = strict(rooms)
        room.profile["require"] = {claim: required[claim] for claim in claims & required.keys()}
        change(room.profile)
        outcome = room.run("print('ran')")
        assert (outcome.status, outcome.output) == (rlu_lock.EXIT_REFUSED, ""), name
        assert {reason.split(" ")[0] for reason in outcome.refused} == claims & required.keys()


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


def test_a_pod_gets_what_it_can(rooms: Callable[..., Room]) -> None:
    """As another user, without capabilities, and no namespaces to be had: with the pod's own network and IPC it starts, and says so."""
    room = rooms("engine", 65534)
    room.pod = True
    outcome = room.run("print('ran', end='')")
    assert outcome.status == rlu_lock.EXIT_REFUSED
    (reason,) = outcome.refused
    assert reason.startswith("no own network and ipc namespace: Operation not permitted; ")
    assert 'lock.engine_network = "shared"' in reason
    composed = profiles.compose("engine", Additions(shared_network=True))
    for member in ("namespaces", "require"):
        room.profile[member] = composed[member]
    outcome = room.run("print('ran', end='')")
    assert (outcome.status, outcome.output) == (0, "ran"), outcome.errors
    said = {
        n: outcome.posture[n] for n in ("network", "ipc", "processes", "unlisted_visible", "capabilities")
    }
    assert said == {
        "network": "host",
        "ipc": "host",
        "processes": "shared",
        "unlisted_visible": True,
        "capabilities": "none",
    }


def test_how_the_program_ends_is_how_the_launcher_ends(room: Room) -> None:
    """The program is a child of the launcher, in a process namespace of its own; the supervisor sees the launcher."""
    assert room.run("raise SystemExit(9)").status == 9
    assert room.run("import os, signal; os.kill(os.getpid(), signal.SIGKILL)").status == -signal.SIGKILL
    assert room.run("import os; os.abort()").status == -signal.SIGABRT


def test_signals_reach_the_program_and_nothing_outlives_the_launcher(room: Room) -> None:
    code = (
        "import os, signal, subprocess, sys\n"
        "def ended(*_): os.write(1, b'told\\n'); raise SystemExit(3)\n"  # a signal may come within a print
        "signal.signal(signal.SIGTERM, ended)\n"
        "subprocess.Popen(['/bin/sleep', '600'], start_new_session=True)\n"
        "os.write(1, b'up\\n')\n"
        "while True: signal.pause()\n"
    )
    for number, status, said in ((signal.SIGTERM, 3, {"told\n"}), (signal.SIGKILL, -9, {"told\n", ""})):
        with room.begin(code) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == "up\n"
                process.send_signal(number)
                # Everything that has the pipe is gone when it ends, the sleeper of another session too.
                assert process.communicate(timeout=60)[0] in said
                assert process.returncode == status
            finally:
                process.kill()
