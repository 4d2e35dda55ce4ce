"""What a process under the lock tries and must not achieve. Each attempt succeeds, or fails otherwise, without the lock."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from locked import Room


@pytest.fixture
def listener() -> Iterator[int]:
    """A service on the host's loopback interface."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def victim() -> Iterator[int]:
    """Another process of the same user."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield child.pid
    child.kill()
    child.wait()


CALL = "libc = ctypes.CDLL(None, use_errno=True)\nif libc.{call} == -1: raise OSError(ctypes.get_errno(), '')"


NAME = "rlu-hostile-test"


@pytest.mark.parametrize(
    "directory",
    ["/", "/tmp", "/var/tmp", "/root", "/etc", "/usr", "/dev", "/run", "/proc", "/dev/shm/.."],
)
def test_cannot_write(room: Room, directory: str) -> None:
    path = f"{directory}/{NAME}"
    assert room.tries(f"os.open({path!r}, os.O_CREAT | os.O_WRONLY, 0o600)") in {"EACCES", "EROFS", "ENOENT"}
    assert not Path(path).exists()


def test_can_write_to_scratch(room: Room) -> None:
    assert (
        room.tries(f"os.close(os.open({str(room.scratch / 'x')!r}, os.O_CREAT | os.O_WRONLY, 0o600))") == "ok"
    )
    assert room.tries("os.close(os.open('/dev/shm/x-rlu-test', os.O_CREAT | os.O_WRONLY, 0o600))") == "ok"
    assert not Path("/dev/shm/x-rlu-test").exists(), "shared memory is the process's own"


@pytest.mark.parametrize("path", ["/etc/shadow", "/root/.bashrc", "/var/log/dpkg.log", "/home", "/"])
def test_cannot_read_what_it_does_not_need(room: Room, path: str) -> None:
    assert room.tries(f"os.open({path!r}, os.O_RDONLY)") in {"EACCES", "ENOENT"}


@pytest.mark.parametrize(
    "code",
    [
        "os.chmod({file!r}, 0o777)",
        "os.utime({file!r}, (1, 1))",
        "os.chown({file!r}, 1, 1)",
        "os.setxattr({file!r}, 'user.note', b'kept at rest')",
        "os.truncate({file!r}, 0)",
        "os.rename({file!r}, {file!r} + 'x')",
        "os.link({file!r}, {scratch!r} + '/link')",
        "os.unlink({file!r})",
    ],
)
def test_cannot_change_files_it_may_read(room: Room, code: str) -> None:
    file = room.model / "weights"
    file.write_bytes(b"weights")
    before = file.stat()
    tried = code.format(file=str(file), scratch=str(room.scratch))
    assert room.tries(tried) in {"EACCES", "EPERM", "EROFS", "EXDEV"}
    after = file.stat()
    assert (after.st_mode, after.st_mtime_ns, after.st_uid, after.st_ino) == (
        before.st_mode,
        before.st_mtime_ns,
        before.st_uid,
        before.st_ino,
    )
    assert os.listxattr(file) == []


def test_cannot_run_a_dropped_program(room: Room) -> None:
    program = room.scratch / "program"
    code = (
        f"handle = os.open({str(program)!r}, os.O_CREAT | os.O_WRONLY, 0o700)\n"
        "os.write(handle, b'#!/bin/sh\\nexit 0\\n'); os.close(handle)\n"
        f"os.waitpid(os.posix_spawn({str(program)!r}, ['p'], {{}}), 0)"
    )
    assert room.tries(code) == "EACCES"


def test_gateway_cannot_run_anything(rooms: Callable[..., Room]) -> None:
    assert rooms("gateway").tries("os.posix_spawn('/bin/true', ['true'], {})") == "EPERM"


def test_cannot_reach_the_host(room: Room, listener: int) -> None:
    socket.create_connection(("127.0.0.1", listener), 5).close()
    assert room.tries(f"socket.create_connection(('127.0.0.1', {listener}), 5)") == "ECONNREFUSED"


def test_has_no_way_out(room: Room) -> None:
    assert room.tries("socket.create_connection(('192.0.2.1', 80), 5)") == "ENETUNREACH"
    assert (
        room.tries("socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))")
        == "ENETUNREACH"
    )


def test_gateway_cannot_connect(rooms: Callable[..., Room], listener: int) -> None:
    room = rooms("gateway")
    room.profile["landlock"]["tcp"] = {"bind": [65123], "connect": []}
    assert room.tries(f"socket.create_connection(('127.0.0.1', {listener}), 5)") == "EACCES"
    assert room.tries("socket.socket(socket.AF_INET, socket.SOCK_DGRAM)") == "EPERM"
    assert room.tries("socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)") == "EPERM"  # MPTCP
    assert room.tries("socket.create_server(('127.0.0.1', 65123))") == "ok"
    assert room.tries("socket.create_server(('127.0.0.1', 65124))") == "EACCES"
    fast = f"socket.socket().sendto(b'GET /', 0x20000000, ('127.0.0.1', {listener}))"
    assert room.tries(fast) == "EPERM"


@pytest.mark.parametrize("family", [17, 38, 40, 16])
def test_gateway_has_no_other_sockets(rooms: Callable[..., Room], family: int) -> None:
    """Packets, kernel crypto, virtual machines' sockets, netlink."""
    assert rooms("gateway").tries(f"socket.socket({family}, 3)") == "EPERM"


@pytest.fixture
def among_others(room: Room) -> Room:
    """The engine's lock where the kernel gives it no process namespace of its own, as in a pod."""
    del room.profile["own_processes"]
    return room


def test_others_do_not_exist_for_it(room: Room, victim: int) -> None:
    assert room.tries(f"os.kill({victim}, signal.SIGKILL)") == "ESRCH"
    assert room.tries(f"os.stat('/proc/{victim}')") == "ENOENT"
    outcome = room.run(
        "import os\nprint({int(n) for n in os.listdir('/proc') if n.isdecimal()} == {1, os.getpid()})"
    )
    assert outcome.output == "True\n"


def test_cannot_ptrace_others(among_others: Room, victim: int) -> None:
    room = among_others
    attach = CALL.format(call=f"ptrace(16, {victim}, 0, 0)")
    assert room.tries(attach) == "EPERM"
    read = "buffer = ctypes.create_string_buffer(64)\n" + CALL.format(
        call=f"process_vm_readv({victim}, buffer, 1, buffer, 1, 0)"
    )
    assert room.tries(read) == "EPERM"


@pytest.mark.parametrize("file", ["environ", "mem", "maps", "fd/0", "root/etc", "cwd/etc"])
def test_cannot_look_into_others(among_others: Room, victim: int, file: str) -> None:
    room = among_others
    assert room.tries(f"os.open('/proc/{victim}/{file}', os.O_RDONLY)") in {"EACCES", "EPERM"}


def test_cannot_signal_others(among_others: Room, victim: int) -> None:
    room = among_others
    assert room.tries(f"os.kill({victim}, 0)") == "EPERM"
    assert room.tries(f"os.kill({victim}, signal.SIGKILL)") == "EPERM"
    assert room.tries("os.kill(os.getppid(), signal.SIGTERM)") == "EPERM"


def test_cannot_reach_abstract_sockets(rooms: Callable[..., Room]) -> None:
    """Landlock's scope, where the network is shared; the network namespace otherwise."""
    name = f"rlu-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("\0" + name)
        server.listen()
        code = f"socket.socket(socket.AF_UNIX).connect('\\0{name}')"
        assert rooms("gateway").tries(code) == "EPERM"
        assert rooms("engine").tries(code) in {"ECONNREFUSED", "EPERM"}


def test_cannot_reach_sockets_by_their_path(room: Room) -> None:
    """Landlock does not see this; a root of our own does. Think of a container runtime's socket."""
    place = Path(tempfile.mkdtemp(prefix="rlu-test-", dir="/run"))
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(place / "s"))
            server.listen()
            code = f"socket.socket(socket.AF_UNIX).connect({str(place / 's')!r})"
            assert room.tries(code) == "ENOENT"
            room.profile["visible"] = [str(place)]
            assert room.tries(code) == "ok"
    finally:
        shutil.rmtree(place)


def test_sees_only_what_is_listed(room: Room) -> None:
    code = "import os\nprint(sorted(n for n in os.listdir('/')), sorted(os.listdir('/etc')))"
    del room.profile["landlock"]
    outcome = room.run(code)
    assert "'boot'" not in outcome.output
    assert "shadow" not in outcome.output
    assert "'passwd'" in outcome.output


@pytest.mark.parametrize(
    "call",
    [
        "mount(b'none', b'/proc', b'tmpfs', 0, 0)",
        "umount2(b'/dev/shm', 2)",
        "unshare(0x10000000)",
        "setns(0, 0)",
        "chroot(b'/usr')",
        "swapoff(b'/x')",
        "reboot(0)",
        "sethostname(b'x', 1)",
        "prctl(4, 1, 0, 0, 0)",
        "syscall(425, 1, 0)",
    ],
)
def test_cannot_undo_the_lock(room: Room, call: str) -> None:
    assert room.tries(CALL.format(call=call)) == "EPERM"


def test_core_limit_cannot_be_raised(room: Room) -> None:
    code = (
        "import resource\n"
        "try: resource.setrlimit(resource.RLIMIT_CORE, (1 << 20, 1 << 20))\n"
        "except ValueError as e: raise OSError(1, str(e))"
    )
    assert room.tries(code) == "EPERM"
    assert room.tries("open('/proc/self/coredump_filter', 'w').write('ff')") in {"EACCES", "EROFS"}


def test_foreign_system_calls_kill(room: Room) -> None:
    """The x32 interface has numbers of its own, which a filter could miss: it is not to be had at all."""
    if os.uname().machine == "x86_64":
        code = "import ctypes; print('before', flush=True); ctypes.CDLL(None).syscall(0x40000000 + 39); print('after')"
        outcome = room.run(code)
        assert outcome.status == -31  # SIGSYS
        assert outcome.output == "before\n"
    else:
        pytest.fail("say here what the foreign interface of this machine is")


def test_a_crash_leaves_no_core(room: Room) -> None:
    outcome = room.run(f"import os; os.chdir({str(room.scratch)!r}); os.abort()")
    assert outcome.status == -6
    assert [file for file in room.scratch.iterdir() if file.name.startswith("core")] == []


def test_secrets_of_the_environment_are_gone(room: Room) -> None:
    code = "print(open('/proc/self/environ').read() + repr(dict(os.environ)))"
    outcome = room.run(
        "import os\n" + code, environment={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "TOKEN": "SECRET"}
    )
    assert outcome.status == 0, outcome.errors
    assert "LANG" in outcome.output
    assert "SECRET" not in outcome.output


def test_children_are_locked_too(room: Room) -> None:
    code = (
        "import subprocess\n"
        "script = 'echo x > /tmp/rlu-child; ls /root; cat /proc/self/status'\n"
        "done = subprocess.run(['/bin/sh', '-c', script], capture_output=True, text=True)\n"
        "print(done.stdout)"
    )
    outcome = room.run(code)
    assert "Seccomp:\t2" in outcome.output
    assert "CapEff:\t0000000000000000" in outcome.output
    assert "NoNewPrivs:\t1" in outcome.output
    assert not Path("/tmp/rlu-child").exists()
