"""The gateway's certificate: what clients of all kinds need of it to trust it as it is, and how it is renewed while it serves."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta, timezone

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fakes.descriptors import none_free
from rlu_server.adapters.auth.client_tls import ClientTrust
from rlu_server.adapters.tls import EARLIER, RENEWED_AFTER, VALIDITY, MemoryTls, ServerTls, certificate

NOW = datetime(2026, 11, 21, tzinfo=timezone.utc)


class Clock:
    """Days since the key was born."""

    def __init__(self) -> None:
        self.days = 0.0

    def __call__(self) -> float:
        return (NOW + timedelta(days=self.days)).timestamp()


def test_boringssl_takes_it_for_self_signed() -> None:
    made = MemoryTls(("gateway.example", "10.1.2.3"), Clock())
    for one in x509.load_pem_x509_certificates(made.certificate_pem):
        assert one.issuer == one.subject
        # A key usage without the right to sign certificates, and Bun (opencode) trusts it from no file.
        with pytest.raises(x509.ExtensionNotFound):
            one.extensions.get_extension_for_class(x509.KeyUsage)
        assert not one.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        names = one.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == ["gateway.example"]
        assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == ["10.1.2.3"]


def test_the_file_holds_the_next_one_under_a_name_of_its_own() -> None:
    now, following = x509.load_pem_x509_certificates(MemoryTls(("a",), Clock()).certificate_pem)
    assert (now.not_valid_before_utc, now.not_valid_after_utc) == (NOW - EARLIER, NOW + VALIDITY)
    assert following.not_valid_before_utc == now.not_valid_before_utc + RENEWED_AFTER
    assert following.not_valid_before_utc < now.not_valid_after_utc
    # Clients that look for an issuer by name would else take the one for the other.
    assert following.subject != now.subject
    assert following.serial_number != now.serial_number
    assert 0 < following.serial_number < 1 << 159


def test_every_process_makes_the_same_one() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    one, other = (certificate(key, ("a", "b"), NOW, 3) for _ in range(2))
    assert one.public_bytes(serialization.Encoding.DER) == other.public_bytes(serialization.Encoding.DER)


@asynccontextmanager
async def serving(tls: ServerTls) -> AsyncIterator[Callable[[ssl.SSLContext], object]]:
    """A server that answers each line with itself; gives what connects to it."""
    writers: list[asyncio.StreamWriter] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls.context)
    port = server.sockets[0].getsockname()[1]

    async def connect(trust: ssl.SSLContext) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", port, ssl=trust, server_hostname="localhost")

    try:
        yield connect
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()


def trusting(pem: bytes) -> ssl.SSLContext:
    """By file, as a client that was given it; its clock is not the tests'."""
    context = ssl.create_default_context(cadata=pem.decode())
    context.verify_flags |= 0x200000  # X509_V_FLAG_NO_CHECK_TIME
    return context


async def shown(stream: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> x509.Certificate:
    """The certificate of a connection, on which an answer comes."""
    reader, writer = stream
    writer.write(b"hello\n")
    assert await asyncio.wait_for(reader.readline(), 60) == b"hello\n"
    seen = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return x509.load_der_x509_certificate(seen)


@pytest.mark.parametrize("asks", [False, True], ids=["", "asking for client certificates"])
async def test_renewed_while_it_serves(asks: bool) -> None:
    clock = Clock()
    tls = MemoryTls(("localhost",), clock)
    trust = ClientTrust(tls.context, tls.fresh, "optional") if asks else None
    file = tls.certificate_pem
    spki = set()
    async with serving(tls) as connect:
        before = await connect(trusting(file))
        first = await shown(before)
        clock.days = 59.9
        assert not tls.renew()
        clock.days = 60
        assert tls.renew()
        assert not tls.renew(), "once for each"
        assert tls.expires == (NOW + RENEWED_AFTER + VALIDITY).timestamp()
        # Who trusts by the file of the start trusts the next certificate too.
        after = await connect(trusting(file))
        second = await shown(after)
        assert second.not_valid_before_utc == first.not_valid_before_utc + RENEWED_AFTER
        # The connection from before goes on with what it has.
        assert await shown(before) == first
        if trust is not None:  # other CAs of clients: another context, the same certificate
            trust.trust("")
            fresh = await connect(trusting(file))
            assert await shown(fresh) == second
            fresh[1].transport.abort()
        clock.days = 120
        assert tls.renew()
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect(trusting(file))
        last = await connect(trusting(tls.certificate_pem))
        third = await shown(last)
        for one in (first, second, third):
            public = one.public_key().public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            )
            spki.add(hashlib.sha256(public).digest())
        for _, writer in (before, after, last):
            writer.transport.abort()
    assert spki == {tls.spki_sha256}, "what was attested is what every one of them has"


def test_a_clock_that_is_set_right_leads_to_the_right_one() -> None:
    clock = Clock()
    tls = MemoryTls(("a",), clock)
    [first, _] = x509.load_pem_x509_certificates(tls.certificate_pem)
    clock.days = 20_000
    assert tls.renew()
    [right, _] = x509.load_pem_x509_certificates(tls.certificate_pem)
    now = NOW + timedelta(days=20_000)
    assert right.not_valid_before_utc < now < right.not_valid_after_utc - (VALIDITY - RENEWED_AFTER)
    clock.days = -1
    assert tls.renew()
    clock.days = 0
    assert tls.renew()
    assert x509.load_pem_x509_certificates(tls.certificate_pem)[0] == first


def test_without_a_free_descriptor_it_is_renewed_later() -> None:
    clock = Clock()
    tls = MemoryTls(("localhost",), clock)
    before = tls.certificate_pem
    clock.days = 60
    with none_free():
        renewed = tls.renew()
    assert (renewed, tls.certificate_pem) == (False, before)
    assert tls.renew()
    assert tls.certificate_pem != before
