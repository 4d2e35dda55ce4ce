"""The lock: restrict this process, measure what the kernel really granted, then become the program.

    python -I -B rlu_lock.py --profile FILE [--define NAME=VALUE]... [--posture-fd N] (--module NAME | --exec PROGRAM) [-- ARGUMENT...]

Rules of this file
- Python 3.9 and its standard library only, and only this file: it is copied into images that know nothing of RLU. That is why it is long.
- Restrictions are data (`profiles/*.json`); leaving one out of the profile leaves it out of the process. There is no switch that turns a
  restriction off but keeps the claim.
- The posture is measured by `probe()` inside the final process *by trying*: open a file that must not open, make a system call that
  must fail. Nothing in it is remembered from what was asked for. `require` in the profile says which measured values are the least
  that is accepted; anything else ends the process with status 77 before the program is loaded.
- With `--module` the program runs in this very process, so the measurement covers it. With `--exec` the kernel keeps everything across
  `execve` but "not dumpable"; the posture then says `"runs": "exec"`.

Not done here: choosing the profile, making scratch, filtering the program's output. Not covered by any lock: root on the host, other
programs of the same user that are outside the lock, GPU memory.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import errno
import fcntl
import glob
import json
import os
import platform
import pwd
import resource
import runpy
import select
import signal
import socket
import stat
import struct
import sys
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, NamedTuple, NoReturn

VERSION = 2
EXIT_REFUSED = 77
"""Exit status when the lock could not be closed as far as the profile requires (sysexits.h: EX_NOPERM)."""
MODULE_NAME = "rlu_server.lock.rlu_lock"

Value = Any  # bool, int or a short string

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class Refused(Exception):
    """A restriction could not be put in place; the message says which, why, and what to do."""


def _syscall(number: int, *arguments: Any) -> int:
    """Raw system call; returns its result, or minus errno."""
    ctypes.set_errno(0)
    converted = [
        a if isinstance(a, (ctypes._SimpleCData, ctypes.Array)) else ctypes.c_long(a) for a in arguments
    ]
    result = int(_libc.syscall(ctypes.c_long(number), *converted))
    return result if result != -1 else -ctypes.get_errno()


def _prctl(option: int, *arguments: int) -> int:
    padded = (*arguments, 0, 0, 0, 0)[:4]
    return _syscall(_number("prctl"), option, *padded)


def _checked(what: str, result: int, remedy: str) -> int:
    if result < 0:
        raise Refused(f"{what}: {os.strerror(-result)}; {remedy}")
    return result


# --- system call numbers ----------------------------------------------------------------------------------------------------------------
# Source: the kernel's arch/x86/entry/syscalls/syscall_64.tbl and scripts/syscall.tbl (aarch64). None: the architecture has no such call.

_NUMBERS: dict[str, tuple[int | None, int | None]] = {
    # name: (x86_64, aarch64)
    "acct": (163, 89),
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "bpf": (321, 280),
    "capset": (126, 91),
    "chroot": (161, 51),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "clone": (56, 220),
    "clone3": (435, 435),
    "delete_module": (176, 106),
    "execve": (59, 221),
    "execveat": (322, 281),
    "fanotify_init": (300, 262),
    "finit_module": (313, 273),
    "fremovexattr": (199, 16),
    "fsconfig": (431, 431),
    "fsetxattr": (190, 7),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "init_module": (175, 105),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "ioctl": (16, 29),
    "ioperm": (173, None),
    "iopl": (172, None),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "landlock_add_rule": (445, 445),
    "landlock_create_ruleset": (444, 444),
    "landlock_restrict_self": (446, 446),
    "lookup_dcookie": (212, 18),
    "lremovexattr": (198, 15),
    "lsetxattr": (189, 6),
    "mlockall": (151, 230),
    "modify_ldt": (154, None),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "mq_getsetattr": (245, 185),
    "mq_notify": (244, 184),
    "mq_open": (240, 180),
    "mq_timedreceive": (243, 183),
    "mq_timedsend": (242, 182),
    "mq_unlink": (241, 181),
    "msgctl": (71, 187),
    "msgget": (68, 186),
    "msgrcv": (70, 188),
    "msgsnd": (69, 189),
    "nfsservctl": (180, 42),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "open_tree_attr": (467, 467),
    "perf_event_open": (298, 241),
    "personality": (135, 92),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "prctl": (157, 167),
    "process_madvise": (440, 440),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "removexattr": (197, 14),
    "removexattrat": (466, 466),
    "request_key": (249, 218),
    "seccomp": (317, 277),
    "semctl": (66, 191),
    "semget": (64, 190),
    "semop": (65, 193),
    "semtimedop": (220, 192),
    "sendmmsg": (307, 269),
    "sendmsg": (46, 211),
    "sendto": (44, 206),
    "setdomainname": (171, 162),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "setsockopt": (54, 208),
    "settimeofday": (164, 170),
    "setxattr": (188, 5),
    "setxattrat": (463, 463),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "shmdt": (67, 197),
    "shmget": (29, 194),
    "socket": (41, 198),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "uselib": (134, None),
    "userfaultfd": (323, 282),
    "vhangup": (153, 58),
}

DENY_GROUPS: dict[str, tuple[str, ...]] = {
    "debug": ("ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp", "pidfd_getfd"),
    "kernel": (
        *(
            "kexec_load",
            "kexec_file_load",
            "init_module",
            "finit_module",
            "delete_module",
            "bpf",
            "perf_event_open",
        ),
        *(
            "userfaultfd",
            "fanotify_init",
            "lookup_dcookie",
            "syslog",
            "acct",
            "quotactl",
            "quotactl_fd",
            "reboot",
        ),
        *("swapon", "swapoff", "sethostname", "setdomainname", "settimeofday", "clock_settime", "adjtimex"),
        *("clock_adjtime", "iopl", "ioperm", "modify_ldt", "vhangup", "uselib", "nfsservctl"),
    ),
    "mount": (
        *("mount", "umount2", "pivot_root", "chroot", "move_mount", "open_tree", "open_tree_attr", "fsopen"),
        *("fsconfig", "fsmount", "fspick", "mount_setattr", "open_by_handle_at", "unshare", "setns"),
    ),
    "keys": ("add_key", "request_key", "keyctl"),
    "io_uring": ("io_uring_setup", "io_uring_enter", "io_uring_register"),
    # Landlock does not cover extended attributes, in which 64 KiB a file could be kept on any disk.
    "attributes": (
        *("setxattr", "lsetxattr", "fsetxattr", "setxattrat"),
        *("removexattr", "lremovexattr", "fremovexattr", "removexattrat"),
    ),
    # System V and POSIX message queues: shared by everybody in the IPC namespace, kept by the kernel when their maker ends.
    "ipc": (
        *("msgget", "msgctl", "msgrcv", "msgsnd", "semget", "semctl", "semtimedop", "semop"),
        *("shmget", "shmctl", "shmat", "shmdt"),
        *("mq_open", "mq_unlink", "mq_timedsend", "mq_timedreceive", "mq_notify", "mq_getsetattr"),
    ),
    "exec": ("execve", "execveat"),
}

_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}


def _column(machine: str = "") -> int:
    machine = machine or platform.machine()
    if machine not in _ARCHITECTURES:
        raise Refused(f"no system call table for {machine}; the lock knows {', '.join(_ARCHITECTURES)}")
    return _ARCHITECTURES[machine][0]


def _number(name: str) -> int:
    number = _NUMBERS[name][_column()]
    return -1 if number is None else number


# --- seccomp ----------------------------------------------------------------------------------------------------------------------------

_LD, _JEQ, _JGE, _JSET, _AND, _RET = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_X32_BIT = 0x40000000
_NAMESPACE_FLAGS = 0x7E020000 | 0x00000080  # CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET} and NEWTIME
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_MSG_FASTOPEN, _TCP_FASTOPEN_CONNECT, _TCP_ULP = 0x20000000, 30, 31
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_PR_SET_DUMPABLE = 4
SOCKETS = ("unix", "tcp", "udp", "netlink")


class _Instruction(NamedTuple):
    code: int
    k: int
    jt: int = 0
    jf: int = 0


def _argument(index: int) -> _Instruction:
    """Load the low 32 bits of an argument (both architectures are little endian; the kernel truncates these arguments too)."""
    return _Instruction(_LD, 16 + 8 * index)


_PASS = _Instruction(_RET, _ALLOW)
_DENY = _Instruction(_RET, _ERRNO | errno.EPERM)


def _deny_if_set(argument: int, bits: int) -> list[_Instruction]:
    return [_argument(argument), _Instruction(_JSET, bits, 0, 1), _DENY, _PASS]


def _deny_if_in(argument: int, values: Iterable[int]) -> list[_Instruction]:
    block = [_argument(argument)]
    for value in values:
        block += [_Instruction(_JEQ, value, 0, 1), _DENY]
    return [*block, _PASS]


def _socket_block(allowed: Iterable[str]) -> list[_Instruction]:
    """Only the listed kinds of sockets; TCP only as TCP, because Landlock does not see MPTCP, SCTP or SMC."""
    block: list[_Instruction] = []
    if "unix" in allowed:
        block += [_argument(0), _Instruction(_JEQ, _AF_UNIX, 0, 1), _PASS]
    if "netlink" in allowed:  # NETLINK_ROUTE only
        block += [
            _argument(0),
            _Instruction(_JEQ, _AF_NETLINK, 0, 3),
            _argument(2),
            _Instruction(_JEQ, 0, 0, 1),
            _PASS,
        ]
    for kind, sock_type, protocol in (("tcp", 1, 6), ("udp", 2, 17)):
        if kind in allowed:
            inner = [_argument(1), _Instruction(_AND, 0xF), _Instruction(_JEQ, sock_type, 0, 4), _argument(2)]
            inner += [_Instruction(_JEQ, 0, 1, 0), _Instruction(_JEQ, protocol, 0, 1), _PASS]
            for family in (_AF_INET, _AF_INET6):
                block += [_argument(0), _Instruction(_JEQ, family, 0, len(inner)), *inner]
    return [*block, _DENY]


def seccomp_program(rules: dict[str, Any], machine: str = "") -> list[_Instruction]:
    """The filter for a profile's `seccomp` object.

    Its members: `deny` (names of `DENY_GROUPS`), `sockets`, `fast_open`, `namespaces`, `terminal`, `dumpable`.
    What is not looked at is allowed without reading arguments, so that the kernel's seccomp cache decides it in constant time.
    """
    column = _column(machine)
    architecture = _ARCHITECTURES[machine or platform.machine()][1]
    program = [
        _Instruction(_LD, 4),
        _Instruction(_JEQ, architecture, 1, 0),
        _Instruction(_RET, _KILL),
        _Instruction(_LD, 0),
    ]
    if column == 0:
        program += [_Instruction(_JGE, _X32_BIT, 0, 1), _Instruction(_RET, _KILL)]
    blocks: list[tuple[str, list[_Instruction]]] = []
    if not rules.get("fast_open", True):  # connecting by sendto() escapes Landlock's connect right
        blocks += [("sendto", _deny_if_set(3, _MSG_FASTOPEN)), ("sendmsg", _deny_if_set(2, _MSG_FASTOPEN))]
        blocks += [("sendmmsg", _deny_if_set(3, _MSG_FASTOPEN))]
        # So does a TCP socket that was turned into an SMC one (TCP_ULP): Landlock no longer takes it for TCP.
        option = [_argument(1), _Instruction(_JEQ, socket.IPPROTO_TCP, 0, 4), _argument(2)]
        option += [_Instruction(_JEQ, _TCP_FASTOPEN_CONNECT, 1, 0), _Instruction(_JEQ, _TCP_ULP, 0, 1)]
        blocks += [("setsockopt", [*option, _DENY, _PASS])]
    if "sockets" in rules:
        blocks.append(("socket", _socket_block(rules["sockets"])))
    if not rules.get("namespaces", True):
        blocks.append(("clone", _deny_if_set(0, _NAMESPACE_FLAGS)))
        # The flags of clone3 are behind a pointer; ENOSYS makes the C library use clone.
        blocks.append(("clone3", [_Instruction(_RET, _ERRNO | errno.ENOSYS)]))
    if not rules.get("terminal", True):
        blocks.append(("ioctl", _deny_if_in(1, (_TIOCSTI, _TIOCLINUX))))
    if not rules.get("dumpable", True):
        blocks.append(("prctl", _deny_if_in(0, (_PR_SET_DUMPABLE,))))
    blocks += [(name, [_DENY]) for group in rules.get("deny", ()) for name in DENY_GROUPS[group]]
    for name, block in blocks:
        number = _NUMBERS[name][column]
        if number is not None:
            program += [_Instruction(_JEQ, number, 0, len(block)), *block]
    return [*program, _PASS]


def _apply_seccomp(rules: dict[str, Any]) -> None:
    packed = b"".join(struct.pack("=HBBI", i.code, i.jt, i.jf, i.k) for i in seccomp_program(rules))
    buffer = ctypes.create_string_buffer(packed, len(packed))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(packed) // 8, ctypes.addressof(buffer)))
    result = _syscall(_number("seccomp"), 1, 0, program)
    _checked("the system call filter was refused", result, "the kernel needs CONFIG_SECCOMP_FILTER")


# --- Landlock ---------------------------------------------------------------------------------------------------------------------------

_FS_EXECUTE, _FS_WRITE_FILE, _FS_READ_FILE, _FS_READ_DIR = 1, 2, 4, 8
_FS_MAKE_CHAR, _FS_MAKE_BLOCK = 1 << 6, 1 << 11
_FS_REFER, _FS_TRUNCATE, _FS_IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_FS_ON_FILES = _FS_EXECUTE | _FS_WRITE_FILE | _FS_READ_FILE | _FS_TRUNCATE | _FS_IOCTL_DEV
_NET_BIND_TCP, _NET_CONNECT_TCP = 1, 2
_SCOPES = {"abstract_sockets": 1, "signals": 2}
_FS_BY_ABI = ((1, (1 << 13) - 1), (2, _FS_REFER), (3, _FS_TRUNCATE), (5, _FS_IOCTL_DEV))


def landlock_abi() -> int:
    """The running kernel's Landlock version; 0 when there is none."""
    return max(0, _syscall(_number("landlock_create_ruleset"), 0, 0, 1))


def _fs_rights(abi: int) -> int:
    rights = 0
    for since, bits in _FS_BY_ABI:
        rights |= bits if abi >= since else 0
    return rights


def _apply_landlock(rules: dict[str, Any], paths: dict[str, list[str]]) -> None:
    abi = landlock_abi()
    minimum = int(rules.get("minimum_abi", 1))
    if abi < minimum:
        raise Refused(
            f"Landlock ABI {minimum} is required and this kernel has {abi or 'none'}; use a newer kernel, boot with lsm=landlock,..., "
            "or lower lock.minimum_landlock_abi (the statement then says what is missing)"
        )
    if abi == 0:
        return
    handled_fs = _fs_rights(abi)
    network = rules.get("tcp") if abi >= 4 else None
    handled_net = 0 if network is None else _NET_BIND_TCP | _NET_CONNECT_TCP
    scoped = sum(_SCOPES[name] for name in rules.get("scopes", ())) if abi >= 6 else 0
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    attributes = ctypes.create_string_buffer(struct.pack("=QQQ", handled_fs, handled_net, scoped), 24)
    remedy = "the kernel's Landlock refused the rule set"
    ruleset = _checked("Landlock", _syscall(_number("landlock_create_ruleset"), attributes, size, 0), remedy)
    try:
        for path, rights in _path_rights(paths):
            _allow_path(ruleset, path, rights & handled_fs)
        for right, ports in ((_NET_BIND_TCP, "bind"), (_NET_CONNECT_TCP, "connect")):
            for port in (network or {}).get(ports, ()):
                rule = ctypes.create_string_buffer(struct.pack("=QQ", right, int(port)))
                _checked(
                    "Landlock port rule", _syscall(_number("landlock_add_rule"), ruleset, 2, rule, 0), remedy
                )
        _checked(
            "Landlock",
            _syscall(_number("landlock_restrict_self"), ruleset, 0),
            "no_new_privs must be set first",
        )
    finally:
        os.close(ruleset)


def _path_rights(paths: dict[str, list[str]]) -> Iterable[tuple[str, int]]:
    read = _FS_READ_FILE | _FS_READ_DIR
    device = _FS_READ_FILE | _FS_WRITE_FILE
    # Never with "write": executing, or making device nodes. What is dropped into scratch cannot be run.
    write = ((1 << 16) - 1) & ~(_FS_EXECUTE | _FS_MAKE_CHAR | _FS_MAKE_BLOCK | _FS_IOCTL_DEV)
    kinds = {"read": read, "execute": read | _FS_EXECUTE, "write": write, "devices": device}
    kinds["ioctl_devices"] = device | _FS_IOCTL_DEV
    for kind, rights in kinds.items():
        for path in paths.get(kind, ()):
            yield path, rights


def _allow_path(ruleset: int, path: str, rights: int) -> None:
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # what is not there needs no access; a program that needed it says so itself
    try:
        if not stat.S_ISDIR(os.fstat(handle).st_mode):
            rights &= _FS_ON_FILES
        rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, handle), 12)
        _checked(
            f"Landlock rule for {path}",
            _syscall(_number("landlock_add_rule"), ruleset, 1, rule, 0),
            "is it a real path?",
        )
    finally:
        os.close(handle)


# --- namespaces, credentials, limits ----------------------------------------------------------------------------------------------------

_CLONE_FLAGS = {
    "network": 0x40000000,
    "ipc": 0x08000000,
    "user": 0x10000000,
    "mount": 0x00020000,
    "pid": 0x20000000,
}
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_PR_CAPBSET_READ, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_GET_NO_NEW_PRIVS = 23, 24, 38, 39
_PR_SET_PDEATHSIG, _PR_GET_PDEATHSIG, _PR_GET_DUMPABLE, _PR_GET_SECUREBITS, _PR_SET_SECUREBITS = (
    1,
    2,
    3,
    27,
    28,
)
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_SECUREBITS_NO_ROOT = 0b1111  # NOROOT, NO_SETUID_FIXUP, and both locked
_MCL_CURRENT_FUTURE = 3


def _apply_namespaces(names: list[str], wished: list[str]) -> bool:
    """Leave the host's namespaces: `names` must, `wished` if the kernel lets us. Returns whether the wished ones were granted."""
    user, group = os.geteuid(), os.getegid()
    privileged = user == 0 and _status_hex("CapEff") & (1 << 21) != 0  # CAP_SYS_ADMIN
    own_user = [] if privileged else ["user"]
    granted = bool(wished) and _unshare([*names, *wished, *own_user]) == 0
    if not granted:
        if not names:
            return False
        _checked(
            f"no own {' and '.join(names)} namespace",
            _unshare([*names, *own_user]),
            "allow unprivileged user namespaces (sysctl kernel.apparmor_restrict_unprivileged_userns=0, user.max_user_namespaces), "
            'start as root, or set lock.engine_network = "shared" (weaker: the statement says so, and the network must deny egress)',
        )
    if not privileged:
        lines = {"setgroups": "deny", "uid_map": f"{user} {user} 1", "gid_map": f"{group} {group} 1"}
        for name, line in lines.items():
            with open(f"/proc/self/{name}", "w") as file:
                file.write(line)
    if "network" in names:
        _raise_loopback()
    return granted


def _unshare(names: list[str]) -> int:
    return _syscall(_number("unshare"), sum(_CLONE_FLAGS[name] for name in names))


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(control, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))


_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_BIND, _MS_REC, _MS_PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18
_AT_RECURSIVE, _ATTR_READ_ONLY = 0x8000, 1
_TEMPORARY = ("/tmp", "/var/tmp")  # noqa: S108 - looked at and mounted over
_PRIVATE_SOURCE = "rlu-lock"
"""Name of the file systems that the lock mounts, by which the posture knows them."""


def _mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> int:
    texts = [
        None if text is None else ctypes.create_string_buffer(os.fsencode(text))
        for text in (source, target, kind, data)
    ]
    source_text, target_text, kind_text, data_text = (0 if text is None else text for text in texts)
    return _syscall(_number("mount"), source_text, target_text, kind_text, flags, data_text)


def _set_read_only(path: str, *, on: bool, recursive: bool) -> int:
    bits = (_ATTR_READ_ONLY, 0) if on else (0, _ATTR_READ_ONLY)
    attributes = ctypes.create_string_buffer(struct.pack("=QQQQ", *bits, 0, 0), 32)
    target = ctypes.create_string_buffer(os.fsencode(path))
    return _syscall(_number("mount_setattr"), -100, target, _AT_RECURSIVE if recursive else 0, attributes, 32)


def _apply_mounts(mounts: dict[str, Any], profile: dict[str, Any], *, own_processes: bool = False) -> None:
    """A root of our own that holds the paths the profile names and nothing else, read-only but for what may be written.

    Landlock decides who may open what. This covers what Landlock does not see: connecting to sockets by their path (a container runtime's,
    another of our processes'), and changing modes, times and owners.
    """
    umask = os.umask(0o022)
    sources = _open_sources(profile)
    _checked("private mounts", _mount("none", "/", None, _MS_REC | _MS_PRIVATE), "report this")
    base = next(path for path in (*_TEMPORARY, "/mnt", "/dev", "/") if os.path.isdir(path))
    _mount_memory(base, "mode=0755,size=16m")
    private = [path for path in mounts.get("private", ()) if os.path.isdir(path) or path.startswith("/dev/")]
    for path in private:
        os.makedirs(base + path)
        _mount_memory(base + path, f"mode=1777,size={int(mounts.get('private_bytes', 1 << 32))}")
    # Parents first: what is mounted over a directory hides what was mounted beneath it.
    shown: list[str] = []
    for path in sorted(sources):
        covered = any(path.startswith(parent.rstrip("/") + "/") for parent in shown)
        if path not in private and (not covered or path in profile.get("write", ())):
            if path == "/proc" and own_processes:
                os.makedirs(base + path)
                if not _rehearse(lambda: _mount_processes(base)):
                    raise Refused("no /proc of its own")
            else:
                _show(base, path, sources[path])
            shown.append(path)
    _enter(base)
    for handle in sources.values():
        os.close(handle)
    result = _set_read_only("/", on=True, recursive=True)
    _checked("read-only mounts", result, "the kernel is older than 5.12")
    for path in profile.get("write", ()):
        if os.path.isdir(path):
            _checked(f"writable {path}", _set_read_only(path, on=False, recursive=False), "report this")
    os.umask(umask)


def _mount_processes(base: str) -> None:
    """In a child: /proc shows the namespace of the process that mounts it, and we are not in the one that we made."""
    result = _mount("proc", base + "/proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    _checked("/proc", result, "report this")


def _open_sources(profile: dict[str, Any]) -> dict[str, int]:
    """Handles on everything that is to be seen, and on what symbolic links among it point to in the same directory tree."""
    found: dict[str, int] = {}
    for kind in (*_PATH_KINDS, "visible"):
        for path in profile.get(kind, ()):
            with contextlib.suppress(FileNotFoundError):
                if path not in found:
                    found[path] = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    return found


def _mount_memory(place: str, options: str) -> None:
    flags = _MS_NOSUID | _MS_NODEV
    # Only the real root may keep a tmpfs from being swapped; that swap is off is checked apart.
    if _mount(_PRIVATE_SOURCE, place, "tmpfs", flags, f"{options},noswap") != 0:
        _checked(f"memory at {place}", _mount(_PRIVATE_SOURCE, place, "tmpfs", flags, options), "report this")


def _show(base: str, path: str, source: int) -> None:
    """Make `path` visible below the new root: a link as the same link, anything else by a bind mount at its real place."""
    parent, name = os.path.split(path.rstrip("/"))
    real = os.path.realpath(parent)
    target = base + os.path.join(real, name)
    os.makedirs(base + real, exist_ok=True)
    if real != parent and not os.path.lexists(base + parent):
        os.makedirs(os.path.dirname(base + parent), exist_ok=True)
        os.symlink(real, base + parent)
    mode = os.fstat(source).st_mode
    if stat.S_ISLNK(mode):
        if not os.path.lexists(target):
            os.symlink(os.readlink("", dir_fd=source), target)
        return
    if stat.S_ISDIR(mode):
        os.makedirs(target, exist_ok=True)
    elif not os.path.lexists(target):
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    flags = _MS_BIND | _MS_REC
    _checked(f"mount of {path}", _mount(f"/proc/self/fd/{source}", target, None, flags), "report this")


def _enter(root: str) -> None:
    """pivot_root(2), "pivot_root('.', '.')": no directory is needed for the old root, which is then let go."""
    os.chdir(root)
    here = ctypes.create_string_buffer(b".")
    _checked("new root", _syscall(_number("pivot_root"), here, here), "report this")
    _checked("old root", _syscall(_number("umount2"), here, 2), "report this")
    os.chdir("/")


def _apply_core_limit() -> None:
    """No core files, and none to a program: the kernel ignores a limit of 0 for piped cores, but 1 stops both (fs/coredump.c)."""
    with open("/proc/sys/kernel/core_pattern") as file:
        limit = 1 if file.read(1) == "|" else 0
    resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))
    # Kept across execve, unlike "not dumpable": whatever is dumped holds no memory.
    with open("/proc/self/coredump_filter", "w") as file:
        file.write("0")


def _apply_memory_lock() -> None:
    """Keep every page in memory, where the limit allows it; the posture says whether it did."""
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except (ValueError, OSError):
        if resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] != resource.RLIM_INFINITY:
            return  # locking future pages under a limit would make allocations fail
    _syscall(_number("mlockall"), _MCL_CURRENT_FUTURE)


def _drop_bounding_set() -> None:
    """Needs CAP_SETPCAP; without it there is nothing in the permitted set that execve could raise under no_new_privs."""
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    _prctl(_PR_SET_SECUREBITS, _SECUREBITS_NO_ROOT)
    capability = 0
    while _prctl(_PR_CAPBSET_READ, capability) >= 0:
        _prctl(_PR_CAPBSET_DROP, capability)
        capability += 1


def _apply_user(user: dict[str, Any] | None) -> None:
    if user is None:
        return
    uid, gid = int(user["uid"]), int(user["gid"])
    try:
        os.setgroups([int(group) for group in user.get("groups", ())])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    except PermissionError as error:
        raise Refused(f"cannot become user {uid}: start as root, or do not configure lock.uids") from error


def _drop_capabilities() -> None:
    header = ctypes.create_string_buffer(struct.pack("=Ii", 0x20080522, 0))
    _checked(
        "dropping capabilities",
        _syscall(_number("capset"), header, ctypes.create_string_buffer(24)),
        "report this",
    )


def _close_files(keep: set[int]) -> None:
    for number in _open_files():
        if number > 2 and number not in keep:
            with contextlib.suppress(OSError):  # the directory handle of the listing itself
                os.close(number)
    if 0 not in keep:
        null = os.open("/dev/null", os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)


# --- profile ----------------------------------------------------------------------------------------------------------------------------

_PATH_KINDS = ("read", "execute", "write", "devices", "ioctl_devices")
_PROFILE_KEYS = frozenset(
    (
        *_PATH_KINDS,
        *(
            "name",
            "landlock",
            "seccomp",
            "namespaces",
            "mounts",
            "no_new_privileges",
            "core_dumps",
            "dumpable",
        ),
        *(
            "visible",
            "capabilities",
            "user",
            "umask",
            "other_users",
            "lock_memory",
            "environment",
            "close_files",
        ),
        *("die_with_parent", "own_processes", "scratch", "require"),
    )
)


def python_paths() -> list[str]:
    """What this interpreter needs to read and execute: its installation and everything on `sys.path`."""
    found = [sys.prefix, sys.base_prefix, sys.exec_prefix, os.path.dirname(os.path.realpath(sys.executable))]
    found += [entry for entry in sys.path if entry]
    return sorted(
        {
            os.path.realpath(entry)
            for entry in found
            if os.path.exists(entry) and os.path.realpath(entry) != "/"
        }
    )


def load_profile(
    path: str, definitions: dict[str, list[str]], search_path: Iterable[str] = ()
) -> dict[str, Any]:
    """Read a profile and fill its placeholders: `"{name}"` as a whole list entry becomes all values given for it, `"{name}/x"` the first.

    Raises:
        Refused: the file is unreadable, has unknown keys, or names something that is not defined.
    """
    try:
        with open(path, encoding="utf-8") as file:
            profile: dict[str, Any] = json.load(file)
    except (OSError, ValueError) as error:
        raise Refused(f"profile {path}: {error}") from error
    unknown = sorted(set(profile) - _PROFILE_KEYS)
    if unknown:
        raise Refused(f"profile {path}: unknown keys {', '.join(unknown)}")
    values = {"python": [*python_paths(), *map(os.path.realpath, search_path)], **definitions}
    for kind in (*_PATH_KINDS, "visible"):
        profile[kind] = [full for entry in profile.get(kind, ()) for full in _expand(entry, values, path)]
    if "scratch" in profile:
        profile["scratch"] = _expand(profile["scratch"], values, path)[0]
    variables = profile.get("environment", {}).get("set", {})
    for name, value in variables.items():
        variables[name] = _expand(value, values, path)[0]
    return profile


def _expand(entry: str, values: dict[str, list[str]], profile: str) -> list[str]:
    start, end = entry.find("{"), entry.find("}")
    if start >= 0 and end > start:
        name = entry[start + 1 : end]
        if name not in values:
            raise Refused(f"profile {profile}: {{{name}}} is not defined; pass --define {name}=...")
        if entry == f"{{{name}}}":
            return list(values[name])
        if not values[name]:
            return []
        entry = entry[:start] + values[name][0] + entry[end + 1 :]
    return sorted(glob.glob(entry)) if any(c in entry for c in "*?[") else [entry]


# --- applying it ------------------------------------------------------------------------------------------------------------------------


class _State:
    """What `probe()` needs to know of how this process was started: names to look at, not results (but for `at_start`)."""

    profile: ClassVar[dict[str, Any]] = {}
    runs = "unlocked"
    kept_files: frozenset[int] = frozenset()
    at_start: ClassVar[dict[str, Any]] = {}
    """`_probe_start()`, measured right before the program began to run."""
    outer: ClassVar[dict[str, str]] = {}
    """The namespaces this process was started in, by their identity: what is still the same is shared."""
    parent = 0
    """The process that started the one which measured first: what is forked from that has it for a parent, which is not outside."""
    init: socket.socket | None = None
    """What holds process 1 of our process namespace, in the process that made it."""
    witness: socket.socket | None = None
    """An abstract socket made before Landlock, in the final network namespace: connecting to it must fail."""


def apply(profile: dict[str, Any], keep_files: Iterable[int] = ()) -> None:
    """Close the lock on this process; cannot be undone.

    Raises:
        Refused: something the profile asks for could not be done at all. (Whether it *holds* is for `probe` to find out.)
    """
    _State.profile, _State.runs = profile, "module"
    _State.outer = {kind: _namespace(kind) for kind in ("ipc", "pid")}
    kept = {int(number) for number in keep_files}
    if profile.get("close_files"):
        _close_files(kept)
    os.umask(int(profile.get("umask", "077"), 8))
    mounts: dict[str, Any] = profile.get("mounts", {})
    names = list(profile.get("namespaces", ()))
    wished = _grantable(names, mounts, profile) if "mounts" in profile else []
    _apply_namespaces(names, wished)
    if profile.get("core_dumps") is False:
        _apply_core_limit()
    hold = _State.init = _start_init(lambda: _restrict(profile)) if "pid" in wished else None
    _make_witness()
    _State.kept_files = frozenset({0, 1, 2, *kept, *([_State.witness.fileno()] if _State.witness else [])})
    if wished:
        _apply_mounts(mounts, profile, own_processes="pid" in wished)
    if profile.get("lock_memory"):
        _apply_memory_lock()
    if hold is not None:
        hold.send(b"1")
    _restrict(profile)
    if hold is not None:
        _descend(hold)


def _restrict(profile: dict[str, Any]) -> None:
    """What each process has to do for itself, in the order in which the kernel allows it."""
    if profile.get("capabilities") == []:
        _drop_bounding_set()
    _apply_user(profile.get("user"))
    if profile.get("no_new_privileges"):
        _checked("no_new_privs", _prctl(_PR_SET_NO_NEW_PRIVS, 1), "the kernel is too old")
    if "landlock" in profile:
        _apply_landlock(profile["landlock"], profile)
    if profile.get("capabilities") == []:
        _drop_capabilities()
    if profile.get("dumpable") is False:
        _checked("PR_SET_DUMPABLE", _prctl(_PR_SET_DUMPABLE, 0), "report this")
    if profile.get("die_with_parent"):
        _die_with_parent()
    if "seccomp" in profile:
        _apply_seccomp(profile["seccomp"])


def _grantable(names: list[str], mounts: dict[str, Any], profile: dict[str, Any]) -> list[str]:
    """Of a root and a /proc of its own, what the kernel grants here; tried in children that are thrown away."""
    for wished in (["mount", "pid"] if profile.get("own_processes") else [], ["mount"]):
        if wished and _rehearse(lambda: _take_own_root(names, wished, mounts, profile)):  # noqa: B023 - at once
            return wished
    return []


def _take_own_root(
    names: list[str], wished: list[str], mounts: dict[str, Any], profile: dict[str, Any]
) -> None:
    if not _apply_namespaces(names, wished):
        raise Refused("no mount namespace")
    if "pid" in wished:
        _State.init = _start_init(lambda: None)  # ends with this process
    _apply_mounts(mounts, profile, own_processes="pid" in wished)


def _rehearse(action: Callable[[], None]) -> bool:
    """Whether `action` works, done in a child: half a new root could not be taken back, and not every container allows one."""
    child = os.fork()
    if child == 0:
        try:
            action()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def _die_with_parent() -> None:
    """After every change of credentials, which would reset it."""
    parent = os.getppid()
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        raise Refused("the supervisor ended while this process started")


_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def _start_init(locked: Callable[[], None]) -> socket.socket:
    """Make process 1 of the process namespace that was just made; returns a socket: closing it ends the namespace.

    Process 1 reaps what the program leaves behind, and locks itself with `locked` as soon as something is sent to the socket.
    """
    ours, theirs = socket.socketpair()
    if os.fork():
        theirs.close()
        ours.recv(1)
        return ours
    try:
        _close_files({0, 1, 2, theirs.fileno()})
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        _forbid_programs_in_memory()
        theirs.send(b"1")
        if theirs.recv(1):
            locked()
            theirs.recv(1)
    finally:
        os._exit(0)


def _forbid_programs_in_memory() -> None:
    """memfd_create(2) makes files that cannot be executed from now on, in this process namespace; Landlock does not see them.

    Needs the real root, and Linux 6.3. The posture says whether it holds.
    """
    with contextlib.suppress(OSError), open("/proc/sys/vm/memfd_noexec", "w") as file:
        file.write("2")


def _descend(hold: socket.socket) -> None:
    """Go on as a child, inside the process namespace. This process stays outside, passes signals on, and ends as the child does.

    Both have the same lock. With us ends process 1, and with that everything in the namespace.
    """
    child = os.fork()
    if child == 0:
        hold.close()
        if _State.profile.get("die_with_parent"):
            _die_with_parent()
        return
    for number in _State.kept_files - {0, 1, 2}:
        with contextlib.suppress(OSError):
            os.close(number)
    for number in _FORWARDED:
        signal.signal(number, lambda received, _frame: os.kill(child, received))
    status = os.waitpid(child, 0)[1]
    if os.WIFEXITED(status):
        os._exit(os.WEXITSTATUS(status))
    if os.WTERMSIG(status) != signal.SIGKILL:
        signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
    os.kill(os.getpid(), os.WTERMSIG(status))


def _namespace(kind: str) -> str:
    """Identity of a namespace of ours, or an empty string where /proc does not tell."""
    try:
        return os.readlink(f"/proc/self/ns/{kind}")
    except OSError:
        return ""


def _make_witness() -> None:
    witness = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    witness.bind(b"\0rlu-lock-" + os.urandom(12).hex().encode())
    witness.listen(1)
    _State.witness = witness


# --- measuring it -----------------------------------------------------------------------------------------------------------------------


def _reachable(result: int) -> bool:
    """Whether a system call with impossible arguments got past every guard: it then fails for its arguments, not for permission."""
    return -result not in (errno.EPERM, errno.EACCES, errno.ENOSYS)


_BAD = -1  # no process, file or address has it
_GROUP_TRIALS: dict[str, dict[str, tuple[int, ...]]] = {
    "debug": {
        "ptrace": (0x4204, 0x7FFFFFFF, 1, 0),  # PTRACE_GETREGSET of no one: ESRCH
        "process_vm_readv": (0x7FFFFFFF, 0, 0, 0, 0, 0),
        "process_vm_writev": (0x7FFFFFFF, 0, 0, 0, 0, 0),
        "process_madvise": (_BAD, 0, 0, 0, 0),
        "kcmp": (0x7FFFFFFF, 0x7FFFFFFF, 0, 0, 0),
        "pidfd_getfd": (_BAD, _BAD, 0),
    },
    "kernel": {
        "bpf": (0, _BAD, 8),
        "perf_event_open": (_BAD, 0, -1, -1, 0),
        "userfaultfd": (1 | 0x100,),
        "fanotify_init": (_BAD, 0),
        "kexec_load": (_BAD, _BAD, _BAD, _BAD),
        "init_module": (_BAD, 0, _BAD),
        "finit_module": (_BAD, _BAD, _BAD),
        "delete_module": (_BAD, 0),
        "swapon": (_BAD, 0),
        "reboot": (0, 0, 0, 0),
        "settimeofday": (_BAD, 0),
        "clock_settime": (_BAD, _BAD),
        "adjtimex": (_BAD,),
        "quotactl": (_BAD, 0, 0, 0),
        "syslog": (_BAD, 0, 0),
        "acct": (_BAD,),
        "sethostname": (_BAD, _BAD),
        "modify_ldt": (_BAD, 0, 0),
        "kexec_file_load": (_BAD, _BAD, 0, 0, 0),
        "lookup_dcookie": (0, _BAD, 0),
        "quotactl_fd": (_BAD, 0, 0, 0),
        "swapoff": (_BAD,),
        "setdomainname": (_BAD, _BAD),
        "clock_adjtime": (_BAD, _BAD),
        "iopl": (99,),
        "ioperm": (_BAD, 1, 1),
        "uselib": (_BAD,),
        "nfsservctl": (_BAD, _BAD, _BAD),
    },
    "mount": {
        "mount": (_BAD, _BAD, _BAD, 0, 0),
        "umount2": (_BAD, _BAD),
        "chroot": (_BAD,),
        "pivot_root": (_BAD, _BAD),
        "open_tree": (-100, _BAD, 0),
        "fsopen": (_BAD, 0),
        "unshare": (1,),
        "setns": (_BAD, 0),
        "open_by_handle_at": (_BAD, _BAD, 0),
        "move_mount": (_BAD, _BAD, _BAD, _BAD, 0),
        "open_tree_attr": (-100, _BAD, 0, _BAD, 0),
        "fsconfig": (_BAD, 0, 0, 0, 0),
        "fsmount": (_BAD, 0, 0),
        "fspick": (-100, _BAD, 0),
        "mount_setattr": (-100, _BAD, 0, _BAD, 0),
    },
    "keys": {"add_key": (_BAD, 0, 0, 0, 0), "request_key": (_BAD, 0, 0, 0), "keyctl": (_BAD, 0, 0, 0, 0)},
    "io_uring": {
        "io_uring_setup": (0, 0),
        "io_uring_enter": (_BAD, 0, 0, 0, 0, 0),
        "io_uring_register": (_BAD, 0, 0, 0),
    },
    "attributes": {
        "setxattr": (_BAD, _BAD, 0, 0, 0),
        "fsetxattr": (_BAD, _BAD, 0, 0, 0),
        "removexattr": (_BAD, _BAD),
        "lsetxattr": (_BAD, _BAD, 0, 0, 0),
        "setxattrat": (-100, _BAD, 0, _BAD, 0, 0),
        "lremovexattr": (_BAD, _BAD),
        "fremovexattr": (_BAD, _BAD),
        "removexattrat": (-100, _BAD, 0, _BAD),
    },
}
_GROUP_TRIALS["ipc"] = {
    **dict.fromkeys(
        ("msgget", "semget", "shmget", "msgctl", "shmctl", "shmat", "mq_getsetattr"), (_BAD, 0, 0)
    ),
    **dict.fromkeys(("msgsnd", "msgrcv", "semop", "semtimedop"), (_BAD, _BAD, 1, 0, 0)),
    **dict.fromkeys(("semctl", "mq_open", "mq_timedsend", "mq_timedreceive"), (_BAD, _BAD, 0, 0, 0)),
    **dict.fromkeys(("shmdt", "mq_unlink", "mq_notify"), (_BAD, 0)),
}
UNTRIED = frozenset({"vhangup"})
"""Denied and not tried: without arguments there is no harmless form of it."""


def _trial_group(group: str) -> str:
    """Names of the group's system calls that are reachable, or "none"."""
    open_calls = [name for name, arguments in _GROUP_TRIALS[group].items() if _try_call(name, arguments)]
    return ",".join(open_calls)[:128] or "none"


def _try_call(name: str, arguments: tuple[int, ...]) -> bool:
    number = _NUMBERS[name][_column()]
    return number is not None and _reachable(_syscall(number, *arguments))


def probe() -> dict[str, Value]:
    """This process's posture, measured now by trying. At most 64 names; values are booleans, integers and short strings.

    Booleans say what is *possible* here; strings list what is, or "none".
    """
    posture: dict[str, Value] = {
        "lock": VERSION,
        "profile": str(_State.profile.get("name", "none")),
        "runs": _State.runs,
    }
    posture["landlock_abi"] = landlock_abi()
    posture.update(_probe_files())
    posture.update(_probe_network())
    for group in _GROUP_TRIALS:
        posture[f"calls_{group}"] = _trial_group(group)
    posture["calls_namespaces"] = _reachable(
        _syscall(_number("clone"), 0x10000000 | 0x200, 0, 0, 0, 0)
    )  # EINVAL by itself
    posture["calls_terminal"] = _probe_terminal()
    posture["calls_dumpable"] = _reachable(_prctl(_PR_SET_DUMPABLE, 77))
    posture.update(_probe_process())
    posture.update(_probe_memory())
    return posture


def _probe_files() -> dict[str, Value]:
    scratch = _State.profile.get("scratch")
    found: dict[str, Value] = {
        "read_outside": any(_can_list(d) for d in ("/", "/home", "/root", "/var", *_TEMPORARY, "/mnt"))
        or any(_attempt(_open_to_read, file) for file in _NEVER_LISTED_FILES),
        "changes_outside": _changes_outside(),
        "write_outside_scratch": any(_can_create(d) for d in _outside_directories()),
        "truncate_outside": _attempt(lambda: os.truncate("/proc/self/comm", 0)),
        "device_ioctl": _probe_device_ioctl(),
        "execute_scratch": _probe_execute(scratch),
        "execute_programs": _spawns("/bin/true"),
        "execute_memory": _probe_execute_memory(),
    }
    found["scratch"] = "none" if scratch is None else _filesystem(scratch)
    found["shared_memory"] = _shared_memory()
    found["metadata_outside"] = _changes_metadata()
    found["unlisted_visible"] = any(os.path.lexists(path) for path in _NEVER_LISTED)
    return found


_NEVER_LISTED = ("/boot", "/srv", "/media", "/var/lib", "/var/log", "/run/lock", "/etc/shadow", "/etc/fstab")
"""On every host, in no profile: seen by a process that has the host's root, whether or not it may open them."""
_NEVER_LISTED_FILES = ("/etc/shadow", "/etc/fstab", "/etc/hostname", "/etc/issue", "/etc/debian_version")


def _shared_memory() -> str:
    """What /dev/shm is to this process: `none` (not writable), `private` (mounted by the lock, gone with us), or the `host`'s."""
    if not _can_create("/dev/shm"):  # noqa: S108
        return "none"
    return "private" if _mount_fields("/dev/shm")[-2:-1] == [_PRIVATE_SOURCE] else "host"  # noqa: S108


def _changes_metadata() -> bool:
    """Whether modes, times or owners of files outside scratch can be changed; tried by setting a file's times to what they are."""

    def touch() -> None:
        known = os.stat(__file__)
        os.utime(__file__, ns=(known.st_atime_ns, known.st_mtime_ns))

    return _attempt(touch)


def _can_list(directory: str) -> bool:
    return _attempt(lambda: os.listdir(directory))


def _attempt(action: Callable[..., Any], *arguments: str) -> bool:
    try:
        action(*arguments)
    except OSError:
        return False
    return True


def _outside_directories() -> list[str]:
    writable = [os.path.realpath(path) for path in _State.profile.get("write", ())]
    home = os.path.expanduser("~")
    with contextlib.suppress(KeyError):
        home = pwd.getpwuid(os.getuid()).pw_dir
    here = os.path.dirname(os.path.abspath(__file__))
    candidates = ["/", *_TEMPORARY, "/var/log", "/etc", "/run", "/home", home, here]
    if _State.profile.get("scratch"):
        candidates.append(os.path.dirname(os.path.realpath(_State.profile["scratch"])))
    inside = [c for c in candidates if any(c == w or c.startswith(w + "/") for w in writable)]
    return [candidate for candidate in candidates if candidate not in inside]


def _can_create(directory: str) -> bool:
    path = os.path.join(directory, f".rlu-lock-probe-{os.getpid()}")
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except OSError:
        return False
    os.unlink(path)
    return True


def _changes_outside() -> str:
    """What can be done outside scratch: names of kinds, one for each of Landlock's rights that change something, or "none".

    What is made here is removed again; where that is impossible, the lock is broken and what is left behind is empty.
    """
    places = [directory for directory in _outside_directories() if directory != "/"]
    found = [name for name, change in _CHANGES.items() if any(_attempt(change, place) for place in places)]
    crowded = ("/etc", os.path.dirname(os.path.abspath(__file__)))
    # The kernel asks Landlock first; then these fail because the one is no file, and the other not empty.
    if any(_refusal(os.unlink, place) == errno.EISDIR for place in crowded):
        found.append("remove_file")
    if any(_refusal(os.rmdir, place) in (errno.ENOTEMPTY, errno.EBUSY) for place in crowded):
        found.append("remove_dir")
    if any(_attempt(_open_to_write, file) for file in (os.path.abspath(__file__), "/etc/passwd")):
        found.append("write_file")
    return ",".join(sorted(found)) or "none"


def _open_to_read(path: str) -> None:
    os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))


def _refusal(action: Callable[[str], Any], place: str) -> int:
    try:
        action(place)
    except OSError as error:
        return error.errno or 0
    return 0


def _open_to_write(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CLOEXEC))


def _made(make: Callable[[str], Any]) -> Callable[[str], None]:
    def change(directory: str) -> None:
        path = os.path.join(directory, f".rlu-lock-kind-{os.getpid()}")
        make(path)
        with contextlib.suppress(OSError):
            os.unlink(path)
        with contextlib.suppress(OSError):
            os.rmdir(path)

    return change


def _make_socket(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)


_CHANGES: dict[str, Callable[[str], None]] = {
    "make_reg": _made(lambda path: os.mknod(path, stat.S_IFREG | 0o600)),
    "make_dir": _made(lambda path: os.mkdir(path, 0o700)),
    "make_sym": _made(lambda path: os.symlink("nowhere", path)),
    "make_fifo": _made(lambda path: os.mkfifo(path, 0o600)),
    "make_sock": _made(_make_socket),
    # Device 0:0 is a whiteout, which takes no privilege to make.
    "make_char": _made(lambda path: os.mknod(path, stat.S_IFCHR | 0o600, 0)),
    "make_block": _made(lambda path: os.mknod(path, stat.S_IFBLK | 0o600, 0)),
}


def _probe_device_ioctl() -> bool:
    """A terminal request to /dev/null: ENOTTY when requests reach devices, EACCES under Landlock (ABI 5)."""
    try:
        with open("/dev/null", "rb", buffering=0) as null:
            fcntl.ioctl(null, 0x5401, bytes(64))
    except OSError as error:
        return error.errno == errno.ENOTTY
    return True


def _probe_execute(scratch: str | None) -> bool:
    """Whether a program dropped into scratch can be run."""
    if scratch is None:
        return False
    path = os.path.join(scratch, f".rlu-lock-program-{os.getpid()}")
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o700)
    except OSError:
        return False
    os.write(handle, b"#!/bin/sh\nexit 0\n")
    os.close(handle)
    try:
        return _spawns(path)
    finally:
        os.unlink(path)


def _probe_execute_memory() -> bool:
    """Whether a program that is in no directory can be run."""
    try:
        handle = os.memfd_create("rlu-lock", 0)
    except OSError:
        return False
    try:
        os.write(handle, b"#!/bin/sh\nexit 0\n")
        return _spawns(f"/proc/self/fd/{handle}")
    finally:
        os.close(handle)


def _spawns(path: str) -> bool:
    try:
        child = os.posix_spawn(
            path, [path], {}, file_actions=[(os.POSIX_SPAWN_CLOSE, 1), (os.POSIX_SPAWN_CLOSE, 2)]
        )
    except OSError:
        return False
    os.waitpid(child, 0)
    return True


_TMPFS_MAGIC, _RAMFS_MAGIC = 0x01021994, 0x858458F6


def _filesystem(path: str) -> str:
    """`tmpfs-noswap`, `tmpfs`, `ramfs` or `disk`."""
    buffer = ctypes.create_string_buffer(256)
    ctypes.set_errno(0)
    if _libc.statfs(os.fsencode(path), buffer) != 0:
        return "unknown"
    kind = struct.unpack("@l", buffer.raw[: struct.calcsize("l")])[0]
    if kind == _RAMFS_MAGIC:
        return "ramfs"
    if kind != _TMPFS_MAGIC:
        return "disk"
    return "tmpfs-noswap" if "noswap" in _mount_options(path) else "tmpfs"


def _mount_options(path: str) -> list[str]:
    return _mount_fields(path)[-1:][0].split(",") if _mount_fields(path) else []


def _mount_fields(path: str) -> list[str]:
    """The line of /proc/self/mountinfo for the file system that `path` is on, in fields (proc(5))."""
    device = os.stat(path).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    with open("/proc/self/mountinfo") as file:
        for line in file:
            fields = line.split()
            if fields[2] == wanted:
                return fields
    return []


def _probe_network() -> dict[str, Value]:
    try:
        with open("/proc/self/net/dev") as file:
            names = {line.split(":")[0].strip() for line in file if ":" in line}
        interfaces = "loopback" if names == {"lo"} else "none" if not names else "host"
    except OSError:
        interfaces = "unknown"
    return {
        "network": interfaces,
        "tcp_connect": _connects(),
        "tcp_bind": _binds(),
        "udp": _opens(socket.AF_INET, socket.SOCK_DGRAM),
        "raw_sockets": _opens(17, socket.SOCK_RAW) or _opens(socket.AF_INET, socket.SOCK_RAW),
        "other_sockets": _opens(40, socket.SOCK_STREAM)
        or _opens(38, 5)
        or _opens(socket.AF_INET, socket.SOCK_STREAM, 262),
        "netlink": _opens(_AF_NETLINK, socket.SOCK_RAW),
        "fast_open": _fast_open(),
        "abstract_sockets": _reaches_witness(),
        "signal_outside": _signals_outside(),
    }


def _signals_outside() -> bool:
    """Tried on our parent, which is outside; in a process namespace of our own nobody outside has a number to name it by."""
    outside = _State.parent = _State.parent or os.getppid()
    return _compare_processes() == "shared" and outside != 0 and _attempt(lambda: os.kill(outside, 0))


def _opens(family: int, kind: int, protocol: int = 0) -> bool:
    return _attempt(lambda: socket.socket(family, kind, protocol).close())


def _connects() -> bool:
    """To the discard port: refused by nobody listening is a way out, refused by Landlock is not."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
            sock.setblocking(False)
            return sock.connect_ex(("127.0.0.1", 9)) not in (errno.EACCES, errno.EPERM)
    except OSError:
        return False


def _binds() -> bool:
    def bind() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
            sock.bind(("127.0.0.1", 9))

    try:
        bind()
    except OSError as error:
        # The discard port is privileged: EACCES comes from Landlock and from lack of privilege alike, so ask for any port too.
        if error.errno not in (errno.EACCES, errno.EPERM):
            return True
        return _binds_any()
    return True


def _binds_any() -> bool:
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
            sock.bind(("127.0.0.1", 0))
    except OSError:
        return False
    return True


def _fast_open() -> bool:
    """Connecting by sendto(), which Landlock does not see. On a socket of another kind, so that nothing is sent."""
    left, right = socket.socketpair()
    with left, right:
        try:
            left.sendto(b"", _MSG_FASTOPEN, "")
        except OSError as error:
            return error.errno != errno.EPERM
        return True


def _reaches_witness() -> bool:
    if _State.witness is None:
        return True
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.setblocking(False)
            # EAGAIN: the queue is full because an earlier probe got through.
            return sock.connect_ex(_State.witness.getsockname()) not in (errno.EPERM, errno.EACCES)
    except OSError:
        return False


def _probe_terminal() -> bool:
    left, right = socket.socketpair()
    with left, right:
        return _reachable(_syscall(_number("ioctl"), left.fileno(), _TIOCSTI, 0))


def _status_hex(name: str) -> int:
    return int(_status(name) or "0", 16)


def _status(name: str) -> str:
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith(name + ":"):
                return line.split(":", 1)[1].strip()
    return ""


def _probe_process() -> dict[str, Value]:
    held = 0
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        held |= _status_hex(name)
    bounds = _status_hex("CapBnd")
    other_users = [int(user) for user in _State.profile.get("other_users", ())]
    return {
        "no_new_privileges": _prctl(_PR_GET_NO_NEW_PRIVS) == 1,
        "call_filter": _status("Seccomp") == "2",
        "capabilities": f"{held:x}" if held else "none",
        "capability_bounds": f"{bounds:x}" if bounds else "none",
        "uid": os.getuid(),
        "uid_shared": os.getuid() in other_users,
        "dies_with_parent": _parent_death_signal() != 0,
        "ipc": _compare_namespace("ipc", _INITIAL_IPC),
        "processes": _compare_processes(),
        **(_State.at_start or _probe_start()),
    }


_INITIAL_IPC = "ipc:[4026531839]"
"""include/linux/proc_ns.h, PROC_IPC_INIT_INO: the namespace of the host itself."""


def _compare_namespace(kind: str, initial: str) -> str:
    """`private`: not the one we were started in; `container`: that one, and it is not the host's; `host`."""
    now = _namespace(kind)
    if now and _State.outer.get(kind) and now != _State.outer[kind]:
        return "private"
    return "container" if now and now != initial else "host"


def _compare_processes() -> str:
    """Whose processes /proc shows: only our `own`, or those of whoever `shared` it with us."""
    try:
        ours = os.readlink("/proc/self") == str(os.getpid())
    except OSError:
        return "shared"
    own = ours and _compare_namespace("pid", "") == "private"
    return "own" if own else "shared"


def _probe_start() -> dict[str, Value]:
    """What was brought along. Only the moment before the program runs can tell it from what the program opens and sets itself."""
    return {
        "environment_unlisted": len(_unlisted_variables()),
        "inherited_files": len([number for number in _open_files() if number not in _State.kept_files]),
    }


def _parent_death_signal() -> int:
    number = ctypes.c_int(0)
    _syscall(_number("prctl"), _PR_GET_PDEATHSIG, ctypes.cast(ctypes.byref(number), ctypes.c_void_p), 0, 0, 0)
    return number.value


def _open_files() -> list[int]:
    """Open descriptors, without the one that listed them."""

    def is_open(number: int) -> bool:
        return _attempt(lambda: fcntl.fcntl(number, fcntl.F_GETFD))

    return [number for number in map(int, os.listdir("/proc/self/fd")) if is_open(number)]


def _unlisted_variables() -> list[str]:
    """Variables the profile does not name, in the environment and in the block the kernel shows to others."""
    keep = _kept_variables(_State.profile)
    names = set(os.environ)
    try:
        with open("/proc/self/environ", "rb") as file:
            names |= {os.fsdecode(entry.split(b"=", 1)[0]) for entry in file.read().split(b"\0") if entry}
    except OSError:
        pass  # not readable to ourselves once not dumpable and not root; the process was started with the same block
    return sorted(names - keep)


def _kept_variables(profile: dict[str, Any]) -> set[str]:
    environment = profile.get("environment", {})
    return {
        *environment.get("keep", ()),
        *environment.get("set", {}),
        "LC_CTYPE",
    }  # LC_CTYPE: Python sets it (PEP 538)


def _probe_memory() -> dict[str, Value]:
    with open("/proc/self/coredump_filter") as file:
        core_filter = int(file.read().strip() or "0", 16)
    return {
        "core_limit": resource.getrlimit(resource.RLIMIT_CORE)[1],
        "core_memory": core_filter != 0,
        "dumpable": _prctl(_PR_GET_DUMPABLE) != 0,
        "swap": swap_state(),
        "memory_locked": not _status("VmLck").startswith("0 "),
    }


def swap_state(root: str = "") -> str:
    """Where memory could go: `off`; `cgroup-off` (this cgroup may not swap); `zram` (compressed memory only, no disk behind it);
    `zswap` (a disk behind compressed memory); `on`.

    Args:
        root: directory with the `proc` and `sys` to look at; empty: the system's.
    """
    with open(f"{root}/proc/swaps") as file:
        devices = [line.split()[0] for line in file.read().splitlines()[1:]]
    if not devices:
        return "off"
    if _cgroup_swap_limit(root) == "0":
        return "cgroup-off"
    if all(_memory_only(root, device) for device in devices):
        return "zram"
    return "zswap" if _first_line(f"{root}/sys/module/zswap/parameters/enabled") in ("Y", "1") else "on"


def _cgroup_swap_limit(root: str) -> str:
    try:
        with open(f"{root}/proc/self/cgroup") as file:
            group = next((line.strip().split("::", 1)[1] for line in file if line.startswith("0::")), None)
    except OSError:
        return ""
    return "" if group is None else _first_line(f"{root}/sys/fs/cgroup{group.rstrip('/')}/memory.swap.max")


def _memory_only(root: str, device: str) -> bool:
    name = os.path.basename(device)
    return name.startswith("zram") and _first_line(f"{root}/sys/block/{name}/backing_dev") == "none"


def _first_line(path: str) -> str:
    """Empty where it cannot be read."""
    try:
        with open(path) as file:
            return file.readline().strip()
    except OSError:
        return ""


# --- judging it -------------------------------------------------------------------------------------------------------------------------

_REMEDIES = {
    "landlock_abi": "use a kernel with Landlock (5.13 or newer, lsm=landlock,...)",
    "scratch": "put scratch on a tmpfs (rlu serve does, or set runtime_dir to one)",
    "swap": "turn swap off (swapoff -a), set memory.swap.max=0, or set lock.unsafe_allow_swap = true",
    "network": 'start as root, allow unprivileged user namespaces, or set lock.engine_network = "shared"',
    "ipc": 'start as root, allow unprivileged user namespaces, or set lock.engine_network = "shared"',
    "shared_memory": "start as root, allow unprivileged user namespaces, or put runtime_dir on a tmpfs other than /dev/shm",
    "memory_locked": "raise the locked-memory limit (ulimit -l unlimited, LimitMEMLOCK=infinity)",
    "uid_shared": "start as root with lock.uids set, so that each process has a user of its own",
}


class Finding(NamedTuple):
    """A measured value that is less than the profile requires."""

    name: str
    measured: Value
    required: Value
    remedy: str


def findings(posture: dict[str, Value], require: dict[str, Any]) -> list[Finding]:
    """Every requirement that does not hold; a list as requirement means any of its values."""
    found = []
    for name, wanted in sorted(require.items()):
        measured = posture.get(name)
        accepted = wanted if isinstance(wanted, list) else [wanted]
        if not any(measured == value and type(measured) is type(value) for value in accepted):
            remedy = _REMEDIES.get(name, "the kernel did not grant this restriction; see server/DESIGN.md")
            found.append(Finding(name, measured, wanted, remedy))
    return found


# --- command ----------------------------------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rlu_lock.py", description="Start a program under RLU's lock.")
    parser.add_argument("--profile", help="JSON file of restrictions")
    parser.add_argument(
        "--define",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="value for a placeholder; may repeat",
    )
    parser.add_argument("--posture-fd", type=int, help="write the measured posture (JSON) to this descriptor")
    parser.add_argument(
        "--keep-fd",
        type=int,
        action="append",
        default=[],
        help="descriptor the program is to inherit; may repeat",
    )
    parser.add_argument("--posture", help="write the measured posture to this file")
    parser.add_argument(
        "--probe", action="store_true", help="print the posture of an unlocked process and exit"
    )
    parser.add_argument("--check", action="store_true", help="lock, measure, print, and exit")
    parser.add_argument("--module", help="Python module to become")
    parser.add_argument(
        "--path", action="append", default=[], help="directory to put first on the module search path"
    )
    parser.add_argument("--exec", dest="program", help="program to execute")
    parser.add_argument("arguments", nargs="*", help="arguments of the program, after --")
    return parser


def _definitions(pairs: list[str]) -> dict[str, list[str]]:
    defined: dict[str, list[str]] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise Refused(f"--define {pair}: expected NAME=VALUE")
        values = defined.setdefault(name, [])
        if value:
            values.append(value)
    return defined


def _clean_environment(profile: dict[str, Any]) -> None:
    """Execute ourselves again when variables would stay behind in the block that /proc/self/environ shows."""
    if "environment" not in profile:
        return
    keep = profile["environment"].get("keep", ())
    clean = {name: value for name, value in os.environ.items() if name in keep}
    clean.update(profile["environment"].get("set", {}))
    actual = {name: value for name, value in os.environ.items() if name != "LC_CTYPE" or "LC_CTYPE" in clean}
    if actual != clean:
        os.execve(sys.executable, [sys.executable, *_interpreter_flags(), *sys.argv], clean)  # noqa: S606 - ourselves


def _interpreter_flags() -> list[str]:
    return ["-I", *(["-B"] if sys.dont_write_bytecode else [])]


def _report(options: argparse.Namespace, document: dict[str, Any], handle: int | None) -> None:
    data = json.dumps(document, sort_keys=True).encode() + b"\n"
    if options.check:
        sys.stdout.write(data.decode())
        sys.stdout.flush()
    if handle is not None:
        while data:
            select.select([], [handle], [])
            data = data[os.write(handle, data) :]
        os.close(handle)


def _refuse(options: argparse.Namespace, handle: int | None, reasons: list[str]) -> NoReturn:
    _report(options, {"refused": reasons}, handle)
    for reason in reasons:
        sys.stderr.write(f"rlu-lock: refused: {reason}\n")
    sys.stderr.flush()
    os._exit(EXIT_REFUSED)


def _become(options: argparse.Namespace) -> NoReturn:
    if options.program is not None:
        os.execv(options.program, [options.program, *options.arguments])  # noqa: S606 - the purpose
    sys.path[:0] = options.path
    # The program's own `import rlu_server.lock.rlu_lock` must find this module: it knows the profile and the witness.
    sys.modules[MODULE_NAME] = sys.modules["__main__"]
    sys.argv = [options.module, *options.arguments]
    runpy.run_module(options.module, run_name="__main__", alter_sys=True)
    sys.exit(0)


def main(argv: list[str] | None = None) -> NoReturn:
    options = _parser().parse_args(argv)
    if options.probe:
        print(json.dumps(probe(), sort_keys=True, indent=1))
        sys.exit(0)
    if (
        options.profile is None
        or (options.module is None) + (options.program is None) + (not options.check) != 2
    ):
        _parser().error("pass --profile, and one of --module, --exec, --check")
    # Opened before the lock: the program must not be able to write where the posture is read.
    handle: int | None = options.posture_fd
    try:
        profile = load_profile(options.profile, _definitions(options.define), options.path)
        _clean_environment(profile)
        if options.posture is not None:
            handle = os.open(options.posture, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        apply(profile, keep_files=[*options.keep_fd, *([] if handle is None else [handle])])
        _State.runs = "exec" if options.program is not None else "module"
        _State.at_start = _probe_start()
        posture = probe()
    except (Refused, OSError, KeyError, ValueError) as error:
        _refuse(options, handle, [str(error) or type(error).__name__])
    short = findings(posture, profile.get("require", {}))
    if short:
        _refuse(
            options,
            handle,
            [f"{f.name} is {f.measured!r}, required {f.required!r}; {f.remedy}" for f in short],
        )
    _report(options, posture, handle)
    if options.check:
        sys.exit(0)
    _State.kept_files -= {handle} if handle is not None else set()
    _become(options)


if __name__ == "__main__":
    main()
