"""Ways out of a process, each tried once in a child of its own; run under a lock, and without one to see that the attempt itself works.

    python rlu_egress_attempts.py TARGETS   (JSON: where things are that must not be reached; see `rlu_server.selftest.egress`)

Prints one JSON object: attempt to `succeeded`, or the name of the error that stopped it. Standard library only, since it runs inside the
engine's interpreter and image. An attempt that succeeds does no more harm than to have happened: victims are the test's own.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import platform
import select
import signal
import socket
import struct
import sys
import termios
import time
from collections.abc import Callable
from typing import Any

SUCCEEDED = "succeeded"
PATIENCE_S = 5.0
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_COLUMN = 0 if platform.machine() == "x86_64" else 1
_NUMBERS = {
    # name: (x86_64, aarch64), as in rlu_lock.py
    "add_key": (248, 217),
    "bpf": (321, 280),
    "execveat": (322, 281),
    "io_uring_setup": (425, 425),
    "kcmp": (312, 272),
    "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438),
    "pidfd_open": (434, 434),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "setns": (308, 268),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
}

Targets = dict[str, Any]
Attempt = Callable[[Targets], object]
ATTEMPTS: dict[str, Attempt] = {}


def attempt(call: Attempt) -> Attempt:
    ATTEMPTS[call.__name__] = call
    return call


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _syscall(name: str, *arguments: Any) -> int:
    ctypes.set_errno(0)
    given = [a if isinstance(a, (ctypes.Array, ctypes._SimpleCData)) else ctypes.c_long(a) for a in arguments]
    return _checked(int(_libc.syscall(ctypes.c_long(_NUMBERS[name][_COLUMN]), *given)))


def _expect(condition: bool) -> None:
    """For what came to nothing without an error of the kernel's."""
    if not condition:
        raise OSError(errno.ENODATA, "")


# --- network ----------------------------------------------------------------------------------------------------------------------------


def _greeted(sock: socket.socket, address: Any) -> None:
    with sock:
        sock.settimeout(PATIENCE_S)
        sock.connect(address)
        _expect(sock.recv(16) == b"outside")


@attempt
def tcp(t: Targets) -> None:
    _greeted(socket.socket(socket.AF_INET, socket.SOCK_STREAM), ("127.0.0.1", t["tcp"]))


@attempt
def tcp_fast_open(t: Targets) -> None:
    """Connecting by sending, which Landlock does not see."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", int(PATIENCE_S), 0))
        sock.sendto(b"x", 0x20000000, ("127.0.0.1", t["tcp"]))
        _expect(sock.recv(16) == b"outside")


@attempt
def mptcp(t: Targets) -> None:
    _greeted(socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262), ("127.0.0.1", t["tcp"]))


@attempt
def tcp_elsewhere(t: Targets) -> None:
    """To another address of this machine, if it has one: a network of one's own has another loopback, and no other address."""
    _greeted(socket.socket(socket.AF_INET, socket.SOCK_STREAM), (t["address"], t["tcp"]))


def _asked(t: Targets, question: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE_S)
        sock.connect(("127.0.0.1", t["udp"]))
        sock.send(question)
        _expect(question[:2] in sock.recv(512))


@attempt
def udp(t: Targets) -> None:
    _asked(t, b"hello")


@attempt
def dns(t: Targets) -> None:
    """A query whose name could carry anything out; the outside answers as a resolver."""
    _asked(t, struct.pack(">HHHHHH", 0x524C, 0x0100, 1, 0, 0, 0) + b"\x06secret\x04test\0\0\x01\0\x01")


@attempt
def raw_ip(t: Targets) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP) as sock:
        sock.sendto(struct.pack(">HHHH", 9, t["udp"], 8, 0), ("127.0.0.1", 0))


@attempt
def packet(t: Targets) -> None:
    socket.socket(17, socket.SOCK_RAW, 0).close()


@attempt
def vsock(t: Targets) -> None:
    socket.socket(40, socket.SOCK_STREAM).close()


@attempt
def kernel_crypto(t: Targets) -> None:
    socket.socket(38, socket.SOCK_SEQPACKET).close()


@attempt
def netlink_interfaces(t: Targets) -> None:
    """The host's interfaces, by rtnetlink."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
        sock.settimeout(PATIENCE_S)
        # struct nlmsghdr, RTM_GETLINK with NLM_F_REQUEST|NLM_F_DUMP; struct ifinfomsg
        sock.send(struct.pack("=IHHII", 32, 18, 0x301, 1, 0) + bytes(16))
        _expect(t["interface"].encode() + b"\0" in sock.recv(65536))


@attempt
def netlink_sockets(t: Targets) -> None:
    """The host's sockets, by sock_diag."""
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4).close()


@attempt
def abstract_socket(t: Targets) -> None:
    _greeted(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), "\0" + t["abstract"])


@attempt
def unix_socket(t: Targets) -> None:
    """Of somebody else's, by its path: a container runtime's."""
    _greeted(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), t["unix"])


@attempt
def attestor_socket(t: Targets) -> None:
    _greeted(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), t["attestor"])


@attempt
def system_v_messages(t: Targets) -> None:
    """A message queue that everybody may write to."""
    message = ctypes.create_string_buffer(struct.pack("@l", 1) + b"x")
    _checked(_libc.msgsnd(t["queue"], message, 1, 0o4000))


# --- other processes --------------------------------------------------------------------------------------------------------------------


@attempt
def proc_environment(t: Targets) -> None:
    with open(f"/proc/{t['victim']}/environ", "rb") as file:
        _expect(bool(file.read()))


@attempt
def proc_memory(t: Targets) -> None:
    with open(f"/proc/{t['victim']}/mem", "rb", buffering=0) as file:
        file.seek(t["address_of_secret"])
        _expect(file.read(6) == b"secret")


@attempt
def proc_root(t: Targets) -> None:
    os.listdir(f"/proc/{t['victim']}/root/")


@attempt
def proc_files(t: Targets) -> None:
    os.listdir(f"/proc/{t['victim']}/fd")


@attempt
def ptrace(t: Targets) -> None:
    _syscall("ptrace", 0x4206, t["victim"], 0, 0)  # PTRACE_SEIZE


@attempt
def read_memory(t: Targets) -> None:
    buffer = ctypes.create_string_buffer(6)
    local = ctypes.create_string_buffer(struct.pack("@PN", ctypes.addressof(buffer), 6))
    remote = ctypes.create_string_buffer(struct.pack("@PN", t["address_of_secret"], 6))
    _syscall("process_vm_readv", t["victim"], local, 1, remote, 1, 0)
    _expect(buffer.raw == b"secret")


@attempt
def write_memory(t: Targets) -> None:
    buffer = ctypes.create_string_buffer(b"secret", 6)
    local = ctypes.create_string_buffer(struct.pack("@PN", ctypes.addressof(buffer), 6))
    remote = ctypes.create_string_buffer(struct.pack("@PN", t["address_of_secret"], 6))
    _syscall("process_vm_writev", t["victim"], local, 1, remote, 1, 0)


@attempt
def steal_descriptor(t: Targets) -> None:
    handle = _syscall("pidfd_open", t["victim"], 0)
    _syscall("pidfd_getfd", handle, 0, 0)


@attempt
def compare_processes(t: Targets) -> None:
    _syscall("kcmp", os.getpid(), t["victim"], 1, 0, 0)


@attempt
def signal_others(t: Targets) -> None:
    os.kill(t["victim"], signal.SIGURG)  # ignored by who does not ask for it


@attempt
def enter_namespace(t: Targets) -> None:
    handle = os.open(f"/proc/{t['victim']}/ns/uts", os.O_RDONLY)
    _syscall("setns", handle, 0)


# --- files and programs -----------------------------------------------------------------------------------------------------------------


def _left(directory: str) -> None:
    path = os.path.join(directory, f"rlu-egress-{os.getpid()}")
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    os.unlink(path)


@attempt
def write_outside(t: Targets) -> None:
    _left(t["outside"])


@attempt
def write_temporary(t: Targets) -> None:
    _left("/var/tmp")  # noqa: S108 - the attempt


@attempt
def read_outside(t: Targets) -> None:
    with open(os.path.join(t["outside"], "secret")) as file:
        _expect(file.read() == "secret")


@attempt
def keep_in_attributes(t: Targets) -> None:
    """Sixty-four kilobytes beside a file that may be read."""
    os.setxattr(t["readable"], "user.kept", b"x")
    os.removexattr(t["readable"], "user.kept")


@attempt
def keep_in_times(t: Targets) -> None:
    status = os.stat(t["readable"])
    os.utime(t["readable"], ns=(status.st_atime_ns, status.st_mtime_ns))


@attempt
def make_device(t: Targets) -> None:
    path = os.path.join(t["scratch"], f"rlu-egress-device-{os.getpid()}")
    os.mknod(path, 0o20600, os.makedev(1, 3))
    os.unlink(path)


def _ran(start: Callable[[], object]) -> None:
    """Whether a program came to run; it ends with 7."""
    child = os.fork()
    if child == 0:
        try:
            start()
        except OSError as error:
            os._exit(100 + (error.errno or 0) % 100)
        os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status >= 100:
        raise OSError(status - 100, "")
    _expect(status == 7)


PROGRAM = b"#!/bin/sh\nexit 7\n"


@attempt
def run_dropped(t: Targets) -> None:
    path = os.path.join(t["scratch"], f"rlu-egress-program-{os.getpid()}")
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o700)
    try:
        os.write(handle, PROGRAM)
        os.close(handle)
        _ran(lambda: os.execve(path, [path], {}))  # noqa: S606
    finally:
        os.unlink(path)


@attempt
def run_from_memory(t: Targets) -> None:
    """A program that is in no directory (memfd_create, then execve of the descriptor)."""
    handle = os.memfd_create("program", 0x10 if t["exec_flag"] else 0)  # MFD_EXEC
    os.write(handle, PROGRAM)
    _ran(lambda: os.execve(f"/proc/self/fd/{handle}", ["program"], {}))  # noqa: S606


# --- the kernel -------------------------------------------------------------------------------------------------------------------------


@attempt
def mount(t: Targets) -> None:
    _syscall("unshare", 0x00020000)
    _checked(_libc.mount(b"none", t["scratch"].encode(), b"tmpfs", 0, None))


@attempt
def make_namespace(t: Targets) -> None:
    _syscall("unshare", 0x10000000)


@attempt
def keep_key(t: Targets) -> None:
    """In the kernel's keyring, which outlives the process."""
    texts = [ctypes.create_string_buffer(text) for text in (b"user", b"rlu-egress", b"x")]
    _syscall("add_key", texts[0], texts[1], texts[2], 1, -2)  # KEY_SPEC_PROCESS_KEYRING


@attempt
def bpf(t: Targets) -> None:
    os.close(_syscall("bpf", 0, ctypes.create_string_buffer(struct.pack("=IIII", 2, 4, 4, 1), 72), 72))


@attempt
def perf(t: Targets) -> None:
    attributes = ctypes.create_string_buffer(struct.pack("=IIQ", 1, 128, 0), 128)
    os.close(_syscall("perf_event_open", attributes, t["victim"], -1, -1, 0))


@attempt
def io_uring(t: Targets) -> None:
    os.close(_syscall("io_uring_setup", 1, ctypes.create_string_buffer(120)))


@attempt
def user_faults(t: Targets) -> None:
    os.close(_syscall("userfaultfd", 0x80000))


@attempt
def type_into_terminal(t: Targets) -> None:
    """TIOCSTI: what is typed is run by whoever reads the terminal."""
    leader, follower = os.openpty()
    os.setsid()
    fcntl.ioctl(follower, termios.TIOCSCTTY, 0)
    fcntl.ioctl(follower, termios.TIOCSTI, b"x")
    _expect(leader >= 0)  # closed with the process, which is hung up by that


@attempt
def become_dumpable(t: Targets) -> None:
    _checked(_libc.prctl(4, 1, 0, 0, 0))


@attempt
def raise_core_limit(t: Targets) -> None:
    with open("/proc/self/coredump_filter", "w") as file:
        file.write("33")


# --- running them -----------------------------------------------------------------------------------------------------------------------


def tried(name: str, targets: Targets) -> str:
    """In a child, because some attempts change the process, and some hang."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            try:
                ATTEMPTS[name](targets)
                said = SUCCEEDED
            except OSError as error:
                said = errno.errorcode.get(error.errno or 0, type(error).__name__)
            os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    said = _read(reading)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return said


def _read(reading: int) -> str:
    deadline = time.monotonic() + 4 * PATIENCE_S
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        ready, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
        said = pipe.read(64) if ready else b"ETIMEDOUT"
    return (said or b"ENDED").decode()


def main(path: str) -> None:
    with open(path) as file:
        targets = json.load(file)
    print(json.dumps({name: tried(name, targets) for name in ATTEMPTS}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
