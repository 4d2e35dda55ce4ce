"""The edge below HTTP: TLS that is wrong, late or too much, and a machine without descriptors."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509

from fakes.rig import Rig

PATH = "/v1/chat/completions"
ROOT = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


NEVER_TOO_LATE = (
    "test_renegotiation_is_refused",
    "test_connections_beyond_the_limit_are_told_and_those_within_go_on",
)


@pytest.fixture
async def rig(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    short = {} if request.node.originalname in NEVER_TOO_LATE else {"header_timeout_s": 1.0}
    async with Rig(tmp_path, {"max_connections": 8, **short}, tls=True) as rig:
        yield rig


def hello(version: int) -> bytes:
    """A ClientHello of before TLS 1.3, that offers a version at most."""
    suites = b"".join(suite.to_bytes(2, "big") for suite in (0xC02B, 0xC009, 0xC00A, 0x002F, 0x0035))
    groups_points_signatures = bytes.fromhex("000a000400020017 000b00020100 000d000400020403")
    body = version.to_bytes(2, "big") + bytes(32) + b"\0" + len(suites).to_bytes(2, "big") + suites
    body += b"\x01\0" + len(groups_points_signatures).to_bytes(2, "big") + groups_points_signatures
    handshake = b"\x01" + len(body).to_bytes(3, "big") + body
    return b"\x16\x03\x01" + len(handshake).to_bytes(2, "big") + handshake


async def raw(rig: Rig, data: bytes, timeout: float = 60.0) -> bytes:
    """What the TLS port says to these very bytes until it ends the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.gateway.port)
    try:
        writer.write(data)
        return await asyncio.wait_for(reader.read(), timeout)
    except ConnectionError:
        return b""
    finally:
        writer.transport.abort()


async def serves(rig: Rig) -> bool:
    wire = await rig.wire()
    await wire.send(ROOT)
    status = (await wire.response()).status
    wire.abort()
    return status == 200


@pytest.mark.parametrize(
    ("version", "taken"), [(0x0300, False), (0x0301, False), (0x0302, False), (0x0303, True)]
)
async def test_old_versions_are_refused(rig: Rig, version: int, taken: bool):
    answer = await raw(rig, hello(version))
    assert answer.startswith(b"\x16") is taken  # a ServerHello, or an alert or nothing at all
    assert await serves(rig)


@pytest.mark.parametrize(
    ("suite", "offered"),
    [
        ("ECDHE-ECDSA-AES128-GCM-SHA256", True),
        ("ECDHE-ECDSA-CHACHA20-POLY1305", True),
        ("ECDHE-ECDSA-AES128-SHA256", False),
        ("ECDHE-ECDSA-AES256-SHA384", False),
        ("ECDHE-ECDSA-AES256-CCM", False),
    ],
)
async def test_tls_1_2_has_authenticated_encryption_only(rig: Rig, suite: str, offered: bool):
    context = ssl.create_default_context(cafile=str(rig.places.certificate))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(suite)
    connecting = asyncio.open_connection(
        "127.0.0.1", rig.gateway.port, ssl=context, server_hostname="localhost"
    )
    if offered:
        _, writer = await connecting
        assert writer.get_extra_info("cipher")[0] == suite
        writer.transport.abort()
    else:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await connecting


async def test_renegotiation_is_refused(rig: Rig):
    """By a client that can: Python's cannot."""
    command = ["openssl", "s_client", "-tls1_2", "-connect", f"127.0.0.1:{rig.gateway.port}"]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdin is not None
    assert process.stdout is not None
    told = await asyncio.wait_for(process.stdout.readuntil(b"Verify return code"), 60)
    assert b"TLSv1.2" in told
    process.stdin.write(b"R\n")
    told, _ = await asyncio.wait_for(process.communicate(), 60)
    assert b"RENEGOTIATING" in told
    assert b"no renegotiation" in told
    assert await serves(rig)


@pytest.mark.parametrize(
    "data",
    [b"", b"\x16", hello(0x0303)[:20], hello(0x0303)],
    ids=["nothing", "a byte", "half a hello", "a hello and no more"],
)
async def test_a_handshake_that_stalls_is_ended(rig: Rig, data: bytes):
    assert b"HTTP" not in await raw(rig, data)
    assert await serves(rig)


@pytest.mark.parametrize(
    "data",
    [ROOT, bytes(100), b"SSH-2.0-OpenSSH_9.9\r\n", b"\x80\x2e\x01\x03\x01" + bytes(41)],
    ids=["HTTP", "zeros", "SSH", "SSL 2"],
)
async def test_what_is_no_tls_gets_no_answer_of_http(rig: Rig, data: bytes):
    answer = await raw(rig, data)
    assert b"HTTP/1" not in answer
    assert await serves(rig)


@pytest.mark.parametrize("name", ["localhost", "other.example", None])
async def test_whatever_name_is_asked_for_the_certificate_is_the_instance_s(rig: Rig, name: str | None):
    context = ssl.create_default_context(cafile=str(rig.places.certificate))
    context.check_hostname = False
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", rig.gateway.port, ssl=context, server_hostname=name or ""
    )
    shown = x509.load_der_x509_certificate(writer.get_extra_info("ssl_object").getpeercert(True))
    assert shown == x509.load_pem_x509_certificates(rig.places.certificate.read_bytes())[0]
    writer.transport.abort()
    assert reader is not None


async def test_connections_beyond_the_limit_are_told_and_those_within_go_on(rig: Rig):
    wires = [await rig.wire() for _ in range(8)]
    for wire in wires:
        await wire.send(ROOT)
        assert (await wire.response()).status == 200
    for _ in range(5):
        extra = await rig.wire()
        refused = await extra.response()
        assert (refused.status, refused.json()["error"]["code"]) == (503, "overloaded")
        assert int(refused.headers["retry-after"]) > 0
        extra.abort()
    await rig.eventually(lambda: len(rig.gateway.relay.connections) == 8)
    await wires[0].send(rig.request(PATH, rig.chat()))
    assert (await wires[0].response()).status == 200
    wires[1].abort()
    await rig.eventually(lambda: len(rig.gateway.relay.connections) == 7)
    assert await serves(rig)


async def test_stalled_handshakes_do_not_shut_others_out(rig: Rig):
    """More of them than there may be connections; they are ended by their time."""
    stalled = [await asyncio.open_connection("127.0.0.1", rig.gateway.port) for _ in range(40)]
    assert await serves(rig)
    for reader, writer in stalled:
        with contextlib.suppress(ConnectionError):
            assert b"HTTP" not in await asyncio.wait_for(reader.read(), 60)
        writer.transport.abort()
    assert await serves(rig)


FLOOD = """
import resource, socket, sys
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 1024), hard))
held = []
for _ in range(200):
    one = socket.socket()
    one.settimeout(0.2)
    try:
        one.connect(("127.0.0.1", int(sys.argv[1])))
    except OSError:
        pass
    held.append(one)
print("flooded", flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("tls", [False, True])
async def test_without_descriptors_it_goes_on_and_recovers(tmp_path: Path, tls: bool):
    """Connections that there are no descriptors for are closed or wait; those that are there go on; then all is as before."""
    async with Rig(tmp_path, {"header_timeout_s": 1.0}, tls=tls) as rig:
        kept = await rig.wire()
        await kept.send(rig.request(PATH, rig.chat()))
        assert (await kept.response()).status == 200
        flood = await asyncio.create_subprocess_exec(
            sys.executable, "-c", FLOOD, str(rig.gateway.port), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert flood.stdin is not None
        assert flood.stdout is not None
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 20, hard))
        try:
            assert await asyncio.wait_for(flood.stdout.readline(), 60) == b"flooded\n"
            await kept.send(ROOT)
            assert (await kept.response()).status == 200
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            flood.stdin.write(b"\n")
            await flood.communicate()
        await rig.ready()
        assert (await rig.call(PATH, rig.chat())).status == 200
        assert [e for e in rig.events if e["event"] == "internal_error"] == []
