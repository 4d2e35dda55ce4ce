"""File systems for tests, served from this process through the kernel's FUSE protocol (include/uapi/linux/fuse.h), without a library.

A program under test makes its usual system calls, and they are answered by `Directory` and `File` objects: also with errors that a real
device gives once in a blue moon. Nothing is cached, every `read` after an `open` sees what `File.read` gave first.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import socket
import stat
import struct
import subprocess
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from absent_inputs import absent

IN_HEADER, OUT_HEADER = struct.Struct("<IIQQIIII"), struct.Struct("<IiQ")
LOOKUP, FORGET, GETATTR, SETATTR, MKDIR, RMDIR, OPEN, READ, WRITE = 1, 2, 3, 4, 9, 11, 14, 15, 16
RELEASE, FLUSH, INIT, OPENDIR, READDIR, RELEASEDIR = 18, 25, 26, 27, 28, 29
INTERRUPT, DESTROY, IOCTL, BATCH_FORGET = 36, 38, 39, 42
SILENT = frozenset({FORGET, INTERRUPT, BATCH_FORGET})
DIRECT_IO = 1
ROOT = 1
BUFFER = 1 << 20
MNT_DETACH = 2


class File(Protocol):
    mode: int
    """Permission bits."""

    def read(self) -> bytes: ...

    def write(self, data: bytes) -> None:
        """One write(2)."""

    def flush(self) -> None:
        """One close(2)."""

    def ioctl(self, command: int, argument: bytes, caller: int) -> bytes:
        """One ioctl(2) by process `caller`: the structure that the argument points to, before and after."""


class Directory(Protocol):
    def entries(self) -> dict[str, Node]: ...

    def mkdir(self, name: str) -> None: ...

    def rmdir(self, name: str) -> None: ...


Node = File | Directory


class _Handle:
    def __init__(self, node: Node) -> None:
        self.node = node
        self.content: bytes | None = None


class Mount:
    """A mounted file system; a context manager. Operations raise OSError to fail the caller's system call."""

    def __init__(self, root: Directory) -> None:
        self._nodes: dict[int, Node] = {ROOT: root}
        self._ids: dict[int, int] = {id(root): ROOT}
        self._handles: dict[int, _Handle] = {}
        self._next = ROOT + 1
        self.path = Path(tempfile.mkdtemp(prefix="rlu-fuse-"))

    def __enter__(self) -> Path:
        self._device, self._by_root = _mount(self.path)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self.path

    def __exit__(self, *_: object) -> None:
        if self._by_root:
            ctypes.CDLL(None, use_errno=True).umount2(os.fsencode(self.path), MNT_DETACH)
        else:
            subprocess.run(["fusermount3", "-u", "-z", self.path], check=True)
        self._thread.join(10)
        os.close(self._device)
        self.path.rmdir()

    def _serve(self) -> None:
        while True:
            try:
                request = os.read(self._device, BUFFER + 4096)
            except OSError as error:
                if error.errno in (errno.EINTR, errno.ENOENT):
                    continue
                return  # ENODEV: unmounted
            _, code, unique, node, _, _, caller, _ = IN_HEADER.unpack_from(request)
            if code in SILENT:
                continue
            try:
                body, failure = self._answer(code, node, request[IN_HEADER.size :], caller), 0
            except OSError as error:
                body, failure = b"", error.errno or errno.EIO
            except Exception:
                body, failure = b"", errno.EPROTO
            with suppress(OSError):  # the caller was killed meanwhile
                os.write(self._device, OUT_HEADER.pack(OUT_HEADER.size + len(body), -failure, unique) + body)

    def _answer(self, code: int, node_id: int, body: bytes, caller: int) -> bytes:
        if code == INIT:
            return struct.pack("<IIIIHHIIHH32x", 7, 31, 0, 0, 16, 12, BUFFER, 1, 0, 0)
        if code == DESTROY:
            return b""
        if code in (READ, WRITE, FLUSH, RELEASE, READDIR, RELEASEDIR):
            return self._on_handle(code, body)
        if code == IOCTL:
            return self._ioctl(body, caller)
        node = self._nodes.get(node_id)
        if node is None:
            raise OSError(errno.ESTALE, "no such node")
        if code in (GETATTR, SETATTR):
            return struct.pack("<QII", 0, 0, 0) + self._attributes(node)
        if code in (OPEN, OPENDIR):
            self._next += 1
            self._handles[self._next] = _Handle(node)
            return struct.pack("<QII", self._next, DIRECT_IO, 0)
        if code in (LOOKUP, MKDIR, RMDIR):
            return self._by_name(code, node, body)
        raise OSError(errno.ENOSYS, "not served")

    def _by_name(self, code: int, node: Node, body: bytes) -> bytes:
        assert not _is_file(node)
        name = body[8 if code == MKDIR else 0 :].rstrip(b"\0").decode()
        if code == RMDIR:
            node.rmdir(name)
            return b""
        if code == MKDIR:
            node.mkdir(name)
        found = node.entries().get(name)
        if found is None:
            raise OSError(errno.ENOENT, name)
        return struct.pack("<QQQQII", self._id(found), 0, 0, 0, 0, 0) + self._attributes(found)

    def _on_handle(self, code: int, body: bytes) -> bytes:
        (handle_id,) = struct.unpack_from("<Q", body)
        handle = self._handles[handle_id]
        node = handle.node
        if code in (RELEASE, RELEASEDIR):
            del self._handles[handle_id]
            return b""
        if not _is_file(node):
            return self._listing(node, body)
        if code == FLUSH:
            node.flush()
            return b""
        offset, size = struct.unpack_from("<QI", body, 8)
        if code == WRITE:
            node.write(body[40 : 40 + size])
            return struct.pack("<II", size, 0)
        if handle.content is None:
            handle.content = node.read()
        return handle.content[offset : offset + size]

    def _ioctl(self, body: bytes, caller: int) -> bytes:
        handle, _, command, _, in_size, _ = struct.unpack_from("<QIIQII", body)
        node = self._handles[handle].node
        if not _is_file(node):
            raise OSError(errno.ENOTTY, "a directory")
        return struct.pack("<iIII", 0, 0, 0, 0) + node.ioctl(command, body[32 : 32 + in_size], caller)

    def _listing(self, node: Directory, body: bytes) -> bytes:
        offset, size = struct.unpack_from("<QI", body, 8)
        listed = b""
        for number, (name, found) in enumerate(node.entries().items(), 1):
            if number <= offset:
                continue
            kind = (stat.S_IFREG if _is_file(found) else stat.S_IFDIR) >> 12
            entry = struct.pack("<QQII", self._id(found), number, len(name), kind) + name.encode()
            entry += bytes(-len(entry) % 8)
            if len(listed) + len(entry) > size:
                break
            listed += entry
        return listed

    def _id(self, node: Node) -> int:
        if id(node) not in self._ids:
            self._next += 1
            self._ids[id(node)] = self._next
            self._nodes[self._next] = node  # keeps it alive, so that its id() stays its own
        return self._ids[id(node)]

    def _attributes(self, node: Node) -> bytes:
        mode = stat.S_IFREG | node.mode if _is_file(node) else stat.S_IFDIR | 0o755
        times = (0,) * 9
        return struct.pack(
            "<QQQQQQIIIIIIIIII",
            self._id(node),
            0,
            0,
            *times[:6],
            mode,
            1,
            os.getuid(),
            os.getgid(),
            0,
            4096,
            0,
        )


def _is_file(node: Node) -> bool:
    return hasattr(node, "flush")


def _mount(path: Path) -> tuple[int, bool]:
    """The device's descriptor, and whether we mounted as root."""
    try:
        device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        path.rmdir()
        absent("fuse", f"/dev/fuse: {error.strerror}")
    options = f"fd={device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}".encode()
    if ctypes.CDLL(None, use_errno=True).mount(b"rlu", os.fsencode(path), b"fuse.rlu", 0, options) == 0:
        return device, True
    os.close(device)
    if shutil.which("fusermount3") is None:
        path.rmdir()
        absent("fuse", "not root, and no fusermount3")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        done = subprocess.run(
            ["fusermount3", "-o", "fsname=rlu", path],
            env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno())},
            pass_fds=[theirs.fileno()],
            capture_output=True,
            check=False,
        )
        if done.returncode:
            path.rmdir()
            absent("fuse", f"fusermount3: {done.stderr.decode(errors='replace').strip()}")
        _, descriptors, _, _ = socket.recv_fds(ours, 16, 1)
    return descriptors[0], False
