"""Between the attestor and the software TPM: a TPM that is slow, refuses, garbles or hangs up, as told.

It knows where a command ends (TPM 2.0 Part 1, section 18: tag, u32 size, code), so that whole commands are delayed and refused. The
control channel passes unchanged.
"""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HEADER = struct.Struct(">HII")
NO_SESSIONS = 0x8001
RC_FAILURE = 0x101
MAX_COMMAND = 1 << 16
CONNECT_S = 10.0
LOOK_S = 0.1


@dataclass(frozen=True, slots=True)
class Mode:
    """How it behaves. Shares are of commands, from 0 to 1."""

    delay_s: float = 0.0
    fails: float = 0.0
    garbles: float = 0.0
    hangs_up: float = 0.0


class TpmProxy:
    """Listens at `tcti` and asks the TPM whose sockets are `upstream` and `upstream.ctrl`. A context manager.

    Attributes:
        mode: may be set at any time.
        commands: how many it has seen.
    """

    def __init__(self, directory: Path, upstream: Path, seed: int = 0) -> None:
        self._socket = directory / "tpm.sock"
        self._upstream = upstream
        self._dice = random.Random(seed)
        self.mode = Mode()
        self.commands = 0
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []

    @property
    def tcti(self) -> str:
        return f"swtpm:path={self._socket}"

    def start(self) -> None:
        self._socket.parent.mkdir(mode=0o700, exist_ok=True)
        self._listen(self._socket, self._upstream, self._commands)
        control = self._socket.with_name(f"{self._socket.name}.ctrl")
        self._listen(control, self._upstream.with_name(f"{self._upstream.name}.ctrl"), self._pass)

    def stop(self) -> None:
        self._ended.set()
        for thread in list(self._threads):
            thread.join()

    def __enter__(self) -> TpmProxy:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _listen(
        self, path: Path, upstream: Path, serve: Callable[[socket.socket, socket.socket], None]
    ) -> None:
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen(8)
        listener.settimeout(LOOK_S)
        self._run(lambda: self._accept(listener, upstream, serve))

    def _run(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(
        self, listener: socket.socket, upstream: Path, serve: Callable[[socket.socket, socket.socket], None]
    ) -> None:
        with listener:
            while not self._ended.is_set():
                try:
                    client, _ = listener.accept()
                except TimeoutError:
                    continue
                self._run(lambda client=client: self._connected(client, upstream, serve))  # type: ignore[misc]

    def _connected(
        self, client: socket.socket, upstream: Path, serve: Callable[[socket.socket, socket.socket], None]
    ) -> None:
        # A TPM that is away ends the connection, as the emulator's own socket would.
        with client, socket.socket(socket.AF_UNIX) as tpm:
            client.settimeout(LOOK_S)
            tpm.settimeout(CONNECT_S)
            with contextlib.suppress(OSError):
                tpm.connect(str(upstream))
                tpm.settimeout(LOOK_S)
                serve(client, tpm)

    def _commands(self, client: socket.socket, tpm: socket.socket) -> None:
        while (command := self._message(client)) is not None:
            self.commands += 1
            mode = self.mode
            if mode.delay_s:
                self._ended.wait(mode.delay_s)
            if self._dice.random() < mode.hangs_up:
                return
            if self._dice.random() < mode.fails:
                client.sendall(HEADER.pack(NO_SESSIONS, HEADER.size, RC_FAILURE))
                continue
            tpm.sendall(command)
            answer = self._message(tpm)
            if answer is None:
                return
            client.sendall(self._garbled(answer) if self._dice.random() < mode.garbles else answer)

    def _garbled(self, answer: bytes) -> bytes:
        """Of the same length, with bits of its contents changed."""
        changed = bytearray(answer)
        for _ in range(4):
            at = self._dice.randrange(6, len(changed))
            changed[at] ^= 1 << self._dice.randrange(8)
        return bytes(changed)

    def _pass(self, client: socket.socket, tpm: socket.socket) -> None:
        """Both ways, until either ends. A control command is answered before the next is sent."""
        for one in (client, tpm):
            one.settimeout(LOOK_S / 10)
        while not self._ended.is_set():
            for source, sink in ((client, tpm), (tpm, client)):
                with contextlib.suppress(TimeoutError):
                    data = source.recv(1 << 16)
                    if not data:
                        return
                    sink.sendall(data)

    def _message(self, source: socket.socket) -> bytes | None:
        """A whole command or response; None when the connection ends."""
        head = self._exactly(source, HEADER.size)
        if head is None:
            return None
        size = HEADER.unpack(head)[1]
        if not HEADER.size <= size <= MAX_COMMAND:
            return None
        rest = self._exactly(source, size - HEADER.size)
        return None if rest is None else head + rest

    def _exactly(self, source: socket.socket, size: int) -> bytes | None:
        found = bytearray()
        while len(found) < size:
            if self._ended.is_set():
                return None
            try:
                data = source.recv(size - len(found))
            except TimeoutError:
                continue
            if not data:
                return None
            found += data
        return bytes(found)
