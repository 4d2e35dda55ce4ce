"""The gateway as a process: TLS, keys, readiness, drain, what it writes; and with the real attestor beside it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from fakes.rig import Rig, Wire
from ports import free_port
from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.statements import Close, SessionStatement
from rlu_server.attestor import messages
from rlu_server.core.apikeys import KeyFile, mint
from scripted import Engine, load_book, serve

PATH = "/v1/chat/completions"
DAYS_60 = 60 * 86400
BOOK = {
    "default": {"events": 4},
    "scripts": {
        "big": {"events": 100, "payload_bytes": 2000},
        "slow": {"events": 40, "interval_ms": 25},
        "endless": {"events": 5000, "interval_ms": 25},
    },
}


@pytest.fixture
async def rig(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    drain_s = 60.0 if request.node.originalname.startswith("test_drain_lets") else 2.0
    async with Rig(tmp_path, {"drain_timeout_s": drain_s}, BOOK) as rig:
        yield rig


async def test_the_certificate_is_renewed_under_a_stream(tmp_path: Path):
    async with Rig(tmp_path, {}, BOOK, tls=True) as rig:
        tls = rig.gateway.tls
        assert tls is not None
        file, clock = rig.places.certificate.read_bytes(), tls.clock
        stream = await rig.wire()
        await stream.send(rig.request(PATH, rig.chat(stream=True, script="endless")))
        await stream.until(b"data:", 60)
        tls.clock = lambda: clock() + DAYS_60
        await rig.eventually(lambda: rig.places.certificate.read_bytes() != file, 60)
        assert [one["level"] for one in rig.events if one["event"] == "certificate_renewed"] == ["info"]
        # The file of the start is as good as the one of now; a connection has the certificate that both name.
        for trusted in (file, rig.places.certificate.read_bytes()):
            context = ssl.create_default_context(cadata=trusted.decode())
            context.verify_flags |= (
                0x200000  # X509_V_FLAG_NO_CHECK_TIME: the test's clock is not the server's
            )
            wire = Wire(
                *await asyncio.open_connection(
                    "127.0.0.1", rig.gateway.port, ssl=context, server_hostname="localhost"
                )
            )
            rig.wires.append(wire)
            await wire.send(rig.request("/v1/models", None, method="GET"))
            assert (await wire.response(60)).status == 200
            shown = x509.load_der_x509_certificate(
                wire.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            )
            spki = shown.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            assert hashlib.sha256(spki).digest() == tls.spki_sha256
            assert shown == x509.load_pem_x509_certificates(file)[1]
        # And the stream goes on.
        received = stream.received.count(b"data:")
        while stream.received.count(b"data:") == received:
            stream.received += await asyncio.wait_for(stream.reader.read(65536), 60)


async def test_the_certificate_is_for_the_key_in_every_statement(tmp_path: Path):
    async with Rig(tmp_path, {}, BOOK, tls=True) as rig:
        wire = await rig.wire()
        tls = wire.writer.get_extra_info("ssl_object")
        assert tls.selected_alpn_protocol() is None
        certificate = x509.load_der_x509_certificate(tls.getpeercert(True))
        spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        assert certificate == x509.load_pem_x509_certificates(rig.places.certificate.read_bytes())[0]
        await wire.send(rig.request(PATH, rig.chat(stream=True)))
        response = await wire.response()
        assert response.status == 200
        statement = rig.statement(response.session)
        assert statement.channel.origin == "gateway-memory"
        assert statement.channel.spki_sha256 == hashlib.sha256(spki).digest()
        assert (await rig.receipt(response)).status == "complete"


async def test_tls_refuses_what_is_old_and_offers_only_http_1_1(tmp_path: Path):
    async with Rig(tmp_path, {}, BOOK, tls=True) as rig:
        context = ssl.create_default_context(cafile=str(rig.places.certificate))
        context.set_alpn_protocols(["h2", "http/1.1"])
        _, writer = await asyncio.open_connection(
            "127.0.0.1", rig.gateway.port, ssl=context, server_hostname="localhost"
        )
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
        writer.transport.abort()
        # No private key lies in any directory.
        files = [p for p in tmp_path.rglob("*") if p.is_file()]
        assert rig.places.certificate in files
        assert not any(b"PRIVATE KEY" in p.read_bytes() for p in files)


async def test_keys_are_revoked_and_added_without_a_restart(rig: Rig):
    assert (await rig.call(PATH, rig.chat())).status == 200
    import msgspec

    rig.records[0] = msgspec.structs.replace(rig.records[0], revoked=1)
    rig.add_key("dave", "acme")
    rig.write_keys()
    await rig.eventually(lambda: len(rig.gateway.relay.keys) == 4)
    refused = await rig.call(PATH, rig.chat())
    assert (refused.status, refused.json()["error"]["code"]) == (401, "key_revoked")
    assert (await rig.call(PATH, rig.chat(), who="dave")).status == 200
    # A file that cannot be read leaves the keys as they were; one that is gone leaves none.
    rig.places.keys.write_text("garbage")
    await rig.eventually(lambda: any(e["event"] == "keys_refused" for e in rig.events))
    assert (await rig.call(PATH, rig.chat(), who="dave")).status == 200
    rig.places.keys.unlink()
    await rig.eventually(lambda: len(rig.gateway.relay.keys) == 0)
    assert (await rig.call(PATH, rig.chat(), who="dave")).status == 401


@pytest.mark.parametrize(
    "broken", [PATH, "/v1/completions", "/v1/responses", "/v1/embeddings", "/v1/messages"]
)
async def test_an_engine_that_ignores_salts_is_not_served(tmp_path: Path, broken: str):
    rig = Rig(tmp_path, {}, BOOK)
    engine_reply = Engine.reply

    def reply(self: Engine, method: bytes, target: bytes, body: bytes) -> Any:
        if target.decode() == broken:
            document = json.loads(body)
            document.pop("cache_salt", None)
            body = json.dumps(document).encode()
        return engine_reply(self, method, target, body)

    Engine.reply = reply  # type: ignore[method-assign]
    rig.ready = lambda: asyncio.sleep(0)  # type: ignore[method-assign,assignment]
    try:
        async with rig:
            await rig.eventually(lambda: any(e["event"] == "engine_salt_unproven" for e in rig.events))
            answer = await rig.call(PATH, rig.chat())
            assert (answer.status, answer.json()["error"]["code"]) == (503, "salt_unproven")
            ready = await rig.call("/readyz", None, who=None, method="GET")
            assert ready.status == 503
    finally:
        Engine.reply = engine_reply  # type: ignore[method-assign]


async def test_routes_the_model_does_not_have_are_refused_in_their_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    engine_reply = Engine.reply

    def reply(self: Engine, method: bytes, target: bytes, body: bytes) -> Any:
        return engine_reply(self, method, b"/none" if target == b"/v1/embeddings" else target, body)

    monkeypatch.setattr(Engine, "reply", reply)
    async with Rig(tmp_path, {}, BOOK) as rig:
        answer = await rig.call("/v1/embeddings", {"model": "scripted", "input": "x"})
        assert (answer.status, answer.json()["error"]["code"]) == (404, "route_not_found")
        assert (await rig.call(PATH, rig.chat())).status == 200


async def test_an_engine_that_comes_back_is_proven_again(rig: Rig):
    rig.engine.seen.clear()
    await rig.stop_engine()
    rig.gateway.engine.close()
    await rig.eventually(lambda: not rig.gateway.readiness.engine)
    await rig.start_engine()
    await rig.eventually(lambda: rig.gateway.readiness.engine)
    probes = [s for s in rig.engine.seen if b'"cache_salt":"a/b"' in s.body]
    assert len(probes) == 5


async def test_drain_lets_what_runs_finish_and_closes_every_session(rig: Rig):
    wire = await rig.wire()
    await wire.send(rig.request(PATH, rig.chat(stream=True, script="slow")))
    await wire.until(b"data: ")
    idle = await rig.wire()
    draining = asyncio.create_task(rig.gateway.drain())
    await rig.eventually(lambda: rig.gateway.readiness.draining)
    refused = await rig.call(PATH, rig.chat())
    assert (refused.status, refused.json()["error"]["code"]) == (503, "draining")
    assert refused.headers["connection"] == "close"
    assert await idle.closed()
    response = await wire.response()
    assert response.content.endswith(b"data: [DONE]\n\n")
    await draining
    session = rig.session(response.session)
    assert session.closed is not None
    close = Close.parse(session.closed.statement)
    assert (close.reason, close.count) == ("drain", 1)


async def test_drain_cuts_what_takes_too_long_and_says_so(rig: Rig):
    wire = await rig.wire()
    await wire.send(rig.request(PATH, rig.chat(stream=True, script="endless")))
    await wire.until(b"data: ")
    await rig.gateway.drain()
    response = await wire.response()
    assert b'"code":"draining"' in response.content
    record = next(m for m in rig.attestor.received if isinstance(m, messages.RecordReceipt))
    assert (record.status, record.reason) == ("partial", "draining")
    session = rig.session(response.session)
    assert session.closed is not None


async def test_drain_waits_for_an_attestor_that_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """However short the drain: what was answered has its receipt, and every session its close."""
    monkeypatch.setattr("rlu_server.gateway.process.CLOSING_S", 60.0)
    async with Rig(tmp_path, {"drain_timeout_s": 0.0}, BOOK) as rig:
        answered = await rig.call(PATH, rig.chat())
        await rig.attestor.stop()
        await rig.eventually(lambda: not rig.gateway.readiness.attestor, 60)
        draining = asyncio.create_task(rig.gateway.drain())
        await rig.eventually(lambda: rig.gateway.ledger.draining, 60)
        await rig.attestor.start()
        await draining
        assert rig.session(answered.session).closed is not None
        assert not [one for one in rig.events if one["event"] == "receipt_lost"]


async def test_drain_does_not_cut_an_answer_that_a_slow_client_is_still_reading(rig: Rig):
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.gateway.port, limit=1024)
    writer.write(rig.request(PATH, rig.chat(stream=True, script="big")))
    await reader.read(10)
    # The engine is done and the exchange is over, but the client has read next to nothing.
    await rig.eventually(lambda: rig.gateway.relay.measures.receipts == {"complete": 1})
    await rig.gateway.drain()
    flushing = asyncio.create_task(rig.gateway.flush())
    received = b""
    while data := await reader.read(65536):
        received += data
    await flushing
    assert received.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    writer.close()


async def test_a_silent_engine_is_given_up(tmp_path: Path):
    book = {"default": {"events": 9, "fault": {"kind": "stall", "after": 2}}}
    async with Rig(tmp_path, {"response_timeout_s": 0.6}, book) as rig:
        stream = await rig.call(PATH, rig.chat(stream=True))
        assert b"engine_timeout" in stream.content
        assert (await rig.receipt(stream)).status == "partial"
        whole = await rig.call(PATH, rig.chat())
        assert not whole.complete or whole.status == 504


async def test_what_is_written_names_no_content(rig: Rig):
    marker = "CANARY-" + os.urandom(8).hex()
    wire = await rig.wire()
    for path, content in (
        (f"/{marker}", b"{}"),
        (f"{PATH}?q={marker}", json.dumps(rig.chat(marker)).encode()),
        (PATH, marker.encode()),
        (PATH, json.dumps({"model": marker}).encode()),
        (PATH, json.dumps(rig.chat(vllm_xargs={marker: 1})).encode()),
    ):
        answer = await rig.call(path, content, headers={"session-id": marker, "User-Agent": marker})
        assert marker.encode() not in answer.content
    await wire.send(marker.encode() + b"\r\n\r\n")
    await wire.response()
    assert len(rig.events) > 5
    assert marker not in json.dumps(rig.events)
    metrics = await rig.metrics()
    assert "rlu_requests_total" in metrics
    assert marker not in metrics


# --- as processes of their own ----------------------------------------------------------------------------------------

FACTS = {
    "model": {"name": "scripted", "manifest_sha256": b64u(bytes(32))},
    "engine": {"name": "scripted", "version": "0", "arguments_sha256": b64u(bytes(32))},
    "hardware": {"profile": "test"},
    "region": "here",
    "boundary": "test",
    "site": "test",
}


class Deployment:
    """Real gateway and real attestor (software key) as processes; the scripted engine in this loop."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.runtime = home / "r"
        for name in ("attestor", "engine", "gateway", "facts"):
            (self.runtime / name).mkdir(parents=True, mode=0o700)
        (self.runtime / "facts" / "instance.json").write_text(json.dumps(FACTS))
        record, self.key = mint(os.urandom(8), os.urandom(32), "acme", "alice", 0)
        (home / "keys.json").write_bytes(KeyFile(pseudonym_key=b64u(bytes(32)), keys=[record]).to_json())
        pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
        (home / "key.pem").write_bytes(pem)
        self.port = free_port()
        self.config = home / "rlu.toml"
        self.config.write_text(
            f'state_dir = "{home / "state"}"\nruntime_dir = "{self.runtime}"\n'
            f'[attestation]\ninsecure_software_key = true\nkey_path = "{home / "key.pem"}"\n'
            f'[gateway]\nport = {self.port}\napi_keys_file = "{home / "keys.json"}"\ndrain_timeout_s = 3\n'
            '[model]\nname = "scripted"\n'
        )
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, part: str) -> None:
        log = (self.home / f"{part}.log").open("ab")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RLU_")}
        self.processes[part] = subprocess.Popen(
            [sys.executable, "-m", f"rlu_server.{part}", "--config", str(self.config)],
            stdout=log,
            stderr=log,
            env=environment,
        )
        log.close()

    def stop(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()

    @property
    def certificate(self) -> Path:
        return self.runtime / "gateway" / "gateway.crt"

    def client(self) -> httpx.AsyncClient:
        context = ssl.create_default_context(cafile=str(self.certificate))
        headers = {"Authorization": f"Bearer {self.key}"}
        return httpx.AsyncClient(
            base_url=f"https://localhost:{self.port}", verify=context, headers=headers, timeout=60
        )

    async def ready(self, timeout: float = 60.0) -> None:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            assert all(process.poll() is None for process in self.processes.values()), self.logs()
            if self.certificate.exists():
                try:
                    async with self.client() as client:
                        if (await client.get("/readyz")).status_code == 200:
                            return
                except (httpx.TransportError, ssl.SSLError):
                    pass
            await asyncio.sleep(0.1)
        raise AssertionError(self.logs())

    def logs(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.home.glob("*.log")))


@pytest.fixture
async def deployment(tmp_path: Path) -> AsyncIterator[Deployment]:
    deployment = Deployment(tmp_path)
    engine = await serve(Engine(load_book(BOOK)), uds=deployment.runtime / "engine" / "engine.sock")
    try:
        yield deployment
    finally:
        deployment.stop()
        engine.close()
        await asyncio.sleep(0.05)


async def test_with_the_real_attestor(deployment: Deployment):
    deployment.start("attestor")
    deployment.start("gateway")
    await deployment.ready()
    async with deployment.client() as client:
        made = await client.post("/v1/rlu/sessions", json={"nonce": b64u(b"n" * 32)})
        assert made.is_success, made.text
        session_id = made.json()["session"]
        sdk = openai.AsyncOpenAI(
            base_url=f"https://localhost:{deployment.port}/v1",
            api_key=deployment.key,
            default_headers={"RLU-Session": session_id},
            http_client=client,
        )
        raw = await sdk.chat.completions.with_raw_response.create(
            model="scripted", messages=[{"role": "user", "content": "hello"}]
        )
        assert raw.headers["rlu-session"] == session_id
        receipt = await client.get(raw.headers["rlu-receipt"])
        assert receipt.is_success, receipt.text

        # The attestor dies and comes back: the session goes on where it was.
        deployment.processes["attestor"].kill()
        deployment.processes["attestor"].wait()
        await wait_for_status(client, 503)
        refused = await client.post(
            PATH, json={"model": "scripted", "messages": []}, headers={"RLU-Session": session_id}
        )
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "signer_unavailable")
        deployment.start("attestor")
        await deployment.ready()
        again = await client.post(
            PATH, json={"model": "scripted", "messages": []}, headers={"RLU-Session": session_id}
        )
        assert again.headers["rlu-receipt"].endswith(f"{session_id}/2")
        assert (await client.get(again.headers["rlu-receipt"])).is_success
        statement = SessionStatement.parse(unb64u(made.json()["statement"]))
        assert statement.session == session_id

    gateway = deployment.processes["gateway"]
    gateway.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(gateway.wait, 15) == 0, deployment.logs()
    written = deployment.logs()
    assert "Traceback" not in written
    assert deployment.key not in written
    log = "".join(
        p.read_text() for p in (deployment.home / "state").rglob("*") if p.is_file() and "log" in str(p)
    )
    assert session_id in log


async def wait_for_status(client: httpx.AsyncClient, status: int) -> None:
    deadline = time.monotonic() + 60
    while (await client.get("/readyz")).status_code != status:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


def test_a_wrong_configuration_is_told_and_ends_it(tmp_path: Path):
    config = tmp_path / "rlu.toml"
    for text, word in (("[gateway]\nprot = 1\n", "gateway.prot"), ('[model]\nname = "m"\n', "runtime_dir")):
        config.write_text(text)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RLU_")}
        done = subprocess.run(
            [sys.executable, "-m", "rlu_server.gateway", "--config", str(config)],
            capture_output=True,
            text=True,
            timeout=60,
            env=environment,
        )
        assert done.returncode != 0
        assert word in done.stderr
