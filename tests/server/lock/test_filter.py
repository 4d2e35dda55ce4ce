"""The system call filter's program, run by a small interpreter of classic BPF, for both architectures."""

from __future__ import annotations

import errno
import struct

import pytest

from rlu_server.lock import profiles, rlu_lock

ALLOW, KILL = 0x7FFF0000, 0x80000000
DENY = 0x00050000 | errno.EPERM
AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
MACHINES = sorted(AUDIT)


def decide(
    program: list[rlu_lock._Instruction], number: int, arguments: tuple[int, ...] = (), audit: int = 0
) -> int:
    """What the kernel would do with this call (Documentation/networking/filter.rst)."""
    padded = (*arguments, *([0] * (6 - len(arguments))))
    data = struct.pack(
        "=iIQ6Q", number if number < 2**31 else number - 2**32, audit, 0, *(a % 2**64 for a in padded)
    )
    accumulator, at = 0, 0
    while True:
        code, k, jt, jf = program[at]
        at += 1
        if code == 0x06:
            return k
        if code == 0x20:
            accumulator = struct.unpack_from("=I", data, k)[0]
        elif code == 0x54:
            accumulator &= k
        else:
            taken = {0x15: accumulator == k, 0x35: accumulator >= k, 0x45: bool(accumulator & k)}[code]
            at += jt if taken else jf


def number(name: str, machine: str) -> int:
    found = rlu_lock._NUMBERS[name][MACHINES[::-1].index(machine)]
    assert found is not None
    return found


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("profile", profiles.NAMES)
def test_every_listed_call_is_denied(machine: str, profile: str) -> None:
    rules = profiles.packaged(profile)["seccomp"]
    program = rlu_lock.seccomp_program(rules, machine)
    for group in rules["deny"]:
        for name in rlu_lock.DENY_GROUPS[group]:
            numbers = rlu_lock._NUMBERS[name]
            call = numbers[MACHINES[::-1].index(machine)]
            if call is not None:
                assert decide(program, call, audit=AUDIT[machine]) == DENY, name


@pytest.mark.parametrize("machine", MACHINES)
def test_ordinary_calls_pass(machine: str) -> None:
    """read, write, mmap, futex, epoll: whatever is not listed."""
    program = rlu_lock.seccomp_program(profiles.packaged("engine")["seccomp"], machine)
    listed = {column[MACHINES[::-1].index(machine)] for column in rlu_lock._NUMBERS.values()}
    for call in range(460):
        if call not in listed:
            assert decide(program, call, audit=AUDIT[machine]) == ALLOW


@pytest.mark.parametrize("machine", MACHINES)
def test_foreign_architectures_kill(machine: str) -> None:
    program = rlu_lock.seccomp_program(profiles.packaged("engine")["seccomp"], machine)
    for audit in (0, 0x40000003, 0x40000028, *(set(AUDIT.values()) - {AUDIT[machine]})):
        assert decide(program, 0, audit=audit) == KILL
    if machine == "x86_64":
        assert decide(program, 0x40000000, audit=AUDIT[machine]) == KILL
        assert decide(program, 0xFFFFFFFF, audit=AUDIT[machine]) == KILL


@pytest.mark.parametrize("machine", MACHINES)
def test_sockets(machine: str) -> None:
    def allowed(kinds: list[str]) -> set[tuple[int, int, int]]:
        program = rlu_lock.seccomp_program({"sockets": kinds}, machine)
        call = number("socket", machine)
        tried = [
            (f, t | 0x80000, p) for f in range(46) for t in range(1, 11) for p in (0, 1, 6, 17, 132, 262)
        ]
        found = [s for s in tried if decide(program, call, s, AUDIT[machine]) == ALLOW]
        assert all(decide(program, call, s, AUDIT[machine]) == DENY for s in tried if s not in found)
        return {(f, t & 0xF, p) for f, t, p in found}

    every = {(1, t, p) for t in range(1, 11) for p in (0, 1, 6, 17, 132, 262)}
    tcp = {(f, 1, p) for f in (2, 10) for p in (0, 6)}
    udp = {(f, 2, p) for f in (2, 10) for p in (0, 17)}
    assert allowed([]) == set()
    assert allowed(["unix"]) == every
    assert allowed(["tcp"]) == tcp
    assert allowed(["udp"]) == udp
    assert allowed(["netlink"]) == {(16, t, 0) for t in range(1, 11)}
    assert allowed(["unix", "tcp", "udp"]) == every | tcp | udp


@pytest.mark.parametrize("machine", MACHINES)
def test_arguments(machine: str) -> None:
    rules = {"fast_open": False, "namespaces": False, "terminal": False, "dumpable": False}
    program = rlu_lock.seccomp_program(rules, machine)

    def verdict(name: str, *arguments: int) -> int:
        return decide(program, number(name, machine), arguments, AUDIT[machine])

    for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000, 0x80):
        assert verdict("clone", flag | 0x11) == DENY
    assert verdict("clone", 0x3D0F00) == ALLOW  # a thread
    assert verdict("clone", 0x4111) == ALLOW  # vfork
    assert verdict("clone3") == 0x00050000 | errno.ENOSYS
    assert verdict("ioctl", 0, 0x5412) == DENY
    assert verdict("ioctl", 0, 0x541C) == DENY
    assert verdict("ioctl", 0, 0x5401) == ALLOW
    # The kernel looks at 32 bits of the request; a filter that compared 64 could be passed by.
    assert verdict("ioctl", 0, 0x1_0000_5412) == DENY
    assert verdict("prctl", 4, 1) == DENY
    assert verdict("prctl", 15, 1) == ALLOW
    assert verdict("sendto", 0, 0, 0, 0x20000000) == DENY
    assert verdict("sendto", 0, 0, 0, 0x4000) == ALLOW
    assert verdict("sendmsg", 0, 0, 0x20000000) == DENY
    assert verdict("sendmmsg", 0, 0, 0, 0x20000000) == DENY
    assert verdict("setsockopt", 0, 6, 30) == DENY
    assert verdict("setsockopt", 0, 6, 31) == DENY, (
        "TCP_ULP could make it an SMC socket, which Landlock does not hold"
    )
    assert verdict("setsockopt", 0, 6, 29) == ALLOW
    assert verdict("setsockopt", 0, 1, 31) == ALLOW
    assert verdict("setsockopt", 0, 6, 1) == ALLOW
    assert verdict("setsockopt", 0, 1, 30) == ALLOW


def test_an_unknown_machine_refuses() -> None:
    with pytest.raises(rlu_lock.Refused, match="riscv64"):
        rlu_lock.seccomp_program({}, "riscv64")
