"""What the relay's fuzzer sends: drawn from a seeded generator, and from nothing else."""

from __future__ import annotations

import gzip
import itertools
import json
import random
import re
from dataclasses import dataclass
from typing import Literal

from rlu_server.core.routes import RELAYED
from scripted.application import Reply

MARKER = re.compile(rb"mk[0-9a-f]{16}z")
PATHS = [path.decode() for path in RELAYED]
ALLOWED = {(b"POST", path) for path in RELAYED} | {(b"GET", b"/health"), (b"GET", b"/metrics")}
"""What may reach an engine: the relayed routes, and the gateway's own look at health and load."""

FORBIDDEN = [
    "/sleep",
    "/invocations",
    "/tokenize",
    "/v1/load_lora_adapter",
    "/metrics",
    "/reset_prefix_cache",
]
SPELLINGS = [
    "{}",
    "/v1/chat/completions/..%2f..{}",
    "/v1/chat/completions/../../..{}",
    "/{}",
    "{};a",
    "{}?x=1",
    "http://engine{}",
    "/%2e%2e{}",
    "/v1/chat/completions%00{}",
    "/V1/CHAT/completions",
    "*",
    "engine:1",
]
TOKENS = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"\x00",
    b" ",
    b"\t",
    b":",
    b";",
    b"\xff",
    b"\xed\xa0\x80",
    b"0\r\n\r\n",
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"HTTP/2.0",
    b"Content-Length: 5\r\n",
    b"Content-Length: -1\r\n",
    b"Content-Length: 4294967299\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding : chunked\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive\r\n",
    b"Upgrade: h2c\r\n",
    b"Expect: 100-continue\r\n",
    b"Content-Encoding: gzip\r\n",
    b"Host: y\r\n",
    b"Trailer: x\r\n",
    b" folded: x\r\n",
    b"5;x=y\r\n",
    b"FFFFFFFFFFFFFFFF\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"POST /sleep HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    b"GET ",
    b"POST ",
    b"\\ud800",
    b"[" * 2000,
    b"9" * 500,
    b"X: " + b"y" * 9000 + b"\r\n",
    b"RLU-Session: AAAAAAAAAAAAAAAAAAAAAA\r\n",
]

Ending = Literal["wait", "half", "leave"]


@dataclass(frozen=True)
class Plan:
    """One connection: pieces with the pause after each; whether it reads; how it ends.

    Attributes:
        valid: nothing was changed, so that every request has its answer.
    """

    pieces: list[tuple[bytes, float]]
    markers: list[bytes]
    valid: bool
    hostile: bool
    reads: bool
    ending: Ending

    @property
    def sent(self) -> bytes:
        return b"".join(piece for piece, _ in self.pieces)


def plan_of(draw: random.Random, key: str, *, hostile: bool) -> Plan:
    """A connection. Towards a hostile engine, clients are good ones."""
    markers = [b"mk%016xz" % draw.getrandbits(64) for _ in range(draw.choice((1, 1, 2, 3, 5)))]
    valid = hostile or draw.random() < 0.3
    ending: Ending = "wait" if valid and draw.random() < 0.8 else draw.choice(("wait", "half", "leave"))
    requests = [_request(draw, key, marker, strange=not valid) for marker in markers]
    if valid:
        # Whoever waits says that nothing follows, so that all answers are seen and no timeout is waited for.
        requests[-1] = requests[-1].replace(b"Host: x\r\n", b"Host: x\r\nConnection: close\r\n", 1)
        stream = b"".join(requests)
    else:
        stream = b"".join(requests)
        for _ in range(draw.choice((0, 1, 1, 2, 4, 8))):
            stream = _changed(draw, stream)
        stream += b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    reads = ending != "leave" or draw.random() < 0.5
    return Plan(_cut(draw, stream), markers, valid, hostile, reads, ending)


def _request(draw: random.Random, key: str, marker: bytes, *, strange: bool) -> bytes:
    path = draw.choice(PATHS)
    if strange and draw.random() < 0.3:
        path = draw.choice(SPELLINGS).format(draw.choice(FORBIDDEN))
    text = marker.decode() + "x" * draw.choice((0, 0, 10, 5000))
    if path.endswith(("/messages", "/count_tokens", "/chat/completions")):
        document: dict[str, object] = {"messages": [{"role": "user", "content": text}], "max_tokens": 5}
    else:
        document = {"prompt" if path == "/v1/completions" else "input": text}
    document = {"model": "scripted", **document}
    if draw.random() < 0.5 and not path.endswith(("/count_tokens", "/embeddings")):
        document["stream"] = True
    body = json.dumps(document).encode()
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: x",
        f"Authorization: Bearer {key}",
        "Content-Type: application/json",
    ]
    if draw.random() < 0.2:
        body = gzip.compress(body, 1, mtime=0)
        lines.append("Content-Encoding: gzip")
    if draw.random() < 0.4:
        lines.append("Transfer-Encoding: chunked")
        content = (
            b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in _pieces(draw, body, 6)) + b"0\r\n\r\n"
        )
    else:
        lines.append(f"Content-Length: {len(body)}")
        content = body
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + content


def _changed(draw: random.Random, data: bytes) -> bytes:
    if not data:
        return data
    # Heads are where framing is decided: half of all changes go to one.
    at = draw.randrange(len(data))
    if draw.random() < 0.5:
        heads = [found.start() for found in re.finditer(rb"POST ", data)] or [0]
        at = min(draw.choice(heads) + draw.randrange(250), len(data) - 1)
    end = min(len(data), at + draw.choice((1, 1, 2, 8, 40)))
    match draw.randrange(7):
        case 0:
            return data[:at] + bytes([data[at] ^ (1 << draw.randrange(8))]) + data[at + 1 :]
        case 1:
            return data[:at] + data[end:]
        case 2:
            return data[:at] + data[at:end] * draw.choice((2, 3, 50)) + data[end:]
        case 3:
            return data[:at]
        case 4:
            return data[:at] + draw.randbytes(end - at) + data[end:]
        case _:
            line = data.find(b"\r\n", at)
            spot = line + 2 if line >= 0 and draw.random() < 0.6 else at
            return data[:spot] + draw.choice(TOKENS) + data[spot:]


def _pieces(draw: random.Random, data: bytes, most: int) -> list[bytes]:
    cuts = sorted({0, len(data), *(draw.randrange(len(data) + 1) for _ in range(draw.randrange(most)))})
    return [data[a:b] for a, b in itertools.pairwise(cuts) if a != b]


def _cut(draw: random.Random, stream: bytes) -> list[tuple[bytes, float]]:
    pause_s = draw.choice((0.0, 0.0, 0.001, 0.01))
    if draw.random() < 0.1:
        return [(bytes([byte]), 0.0) for byte in stream[:600]] + [(stream[600:], 0.0)]
    return [(piece, pause_s) for piece in _pieces(draw, stream, 8)]


# --- the engine ---

HEADS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 9\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5000000000\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 042 Odd\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 30_000,
    b"HTTP/1.1 200 OK\r\nX: " + b"y" * 90_000,
    b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n" * 5000,
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Type: a\rb\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nRetry-After: 1\x0b\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
    b"ICY 200 OK\r\n\r\n",
    b"",
]
CONTENTS = [
    b"5\r\nabcde\r\n0\r\n\r\n",
    b"5\r\nabcdefgh\r\n",
    b"zz\r\n",
    b"FFFFFFFFFFFFFFFFFF\r\n",
    b"5;" + b"e" * 70_000 + b"\r\nabcde\r\n",
    b"0\r\nX: y\r\n\r\n",
    b"abcde",
    b"",
    b"\x00" * 1000,
    b"abcdeHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    b'data: {"error": {"message": "x"}}\n\n',
    b"data: " + b"x" * 300_000,
    b"1\r\nx\r\n" * 5000,
]


def answer_of(
    draw: random.Random, target: bytes, body: bytes, markers: list[bytes], *, hostile: bool
) -> Reply:
    """An answer that repeats the markers; in half of what a hostile engine says, in no shape that HTTP knows."""
    text = b" ".join(markers)
    if hostile and draw.random() < 0.5:
        content = b"%b%b" % (draw.choice(HEADS), draw.choice(CONTENTS))
        ending = draw.choice(("keep", "close", "close", "stall"))
        return Reply(b"", _pieces(draw, content, 4) or [b""], ending, interval_s=draw.choice((0.0, 0.002)))
    if b'"stream": true' in body:
        events = [
            b'data: {"m": "%b"}\n\n' % text,
            *[b'data: {"n": %d}\n\n' % n for n in range(draw.randrange(9))],
        ]
        writes = [b"%x\r\n%b\r\n" % (len(event), event) for event in events] + [b"0\r\n\r\n"]
        reply = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    else:
        content = b'{"m": "%b"}' % text
        reply = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(
            content
        )
        writes = [content]
    if not hostile:
        return Reply(reply, writes, interval_s=draw.choice((0.0, 0.0, 0.005)))
    whole = reply + b"".join(writes)
    for _ in range(draw.choice((0, 1, 2))):
        whole = _changed(draw, whole)
    return Reply(
        b"",
        _pieces(draw, whole, 5) or [b""],
        draw.choice(("keep", "keep", "close", "stall")),
        interval_s=0.001,
    )
