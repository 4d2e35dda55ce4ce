"""The demo from start to end. Returns an exit code; prints steps with times, and the total."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from rlu_attestation.encoding import b64u
from rlu_attestation.instance import arguments_digest
from rlu_server import swtpm
from rlu_server.settings import Settings
from rlu_server.supervisor import run
from rlu_server.supervisor.demo import guide, policy, proof, state
from rlu_server.supervisor.demo.state import Demo
from rlu_server.supervisor.errors import Unavailable
from rlu_server.supervisor.prepare import port_is_free
from rlu_server.supervisor.progress import Steps
from rlu_server.supervisor.runtime import Runtime
from rlu_server.supervisor.server import Deployment

QUESTION = "What is RLU?"
PROBE = "What is a receipt?"


def demo(
    directory: Path, *, once: bool, port: int | None, console: Console, variables: Mapping[str, str]
) -> int:
    """Run it.

    Raises:
        ServeError, SettingsError: something refused; the message says what to do.
    """
    steps = Steps(console)
    place = state.open_directory(directory)
    steps.say(f"demo below {place.directory}")
    if not (place.model / state.CANARY).is_file():
        steps.say("making the demo model (once, under a minute)")
        state.make_model(place)
    state.sign_model(place)
    steps.say("demo model is there, signed by the demo's key")
    try:
        tpm = swtpm.SoftwareTpm(place.swtpm)
        with tpm:
            return _with_tpm(place, tpm, steps, once=once, port=port, console=console, variables=variables)
    except swtpm.SwtpmError as error:
        raise Unavailable(f"the software TPM did not start: {error}") from error


def _with_tpm(
    place: Demo,
    tpm: swtpm.SoftwareTpm,
    steps: Steps,
    *,
    once: bool,
    port: int | None,
    console: Console,
    variables: Mapping[str, str],
) -> int:
    steps.say("emulated TPM is on ([yellow]an emulator: it proves the mechanism, not a machine[/yellow])")
    settings = _settings(place, tpm.tcti, port, steps)
    steps.say(
        "registrar endorsed the TPM"
        if state.enrol(place, settings)
        else "TPM is endorsed by the demo's registrar"
    )
    if state.make_api_key(place):
        steps.say(f"API key made: {place.api_key}")
    result = {"code": 0}

    async def meanwhile(deployment: Deployment, runtime: Runtime) -> None:
        server = _publish(place, deployment, runtime)
        result["code"] = await asyncio.to_thread(_prove, place, server, steps, console)
        if result["code"] == 0:
            console.print(escape(guide.text(place, server)), highlight=False, soft_wrap=True)
        steps.say(f"[bold]total: {steps.elapsed_s:.1f} s[/bold]")
        if not once and result["code"] == 0:
            steps.say(f"serving at [bold]{server.url}[/bold] until Ctrl-C", style="green")
            await run.forever(deployment, runtime)

    interrupted = asyncio.run(run.serve(settings, variables, steps.event, meanwhile=meanwhile))
    return 130 if once and interrupted else result["code"]


def _settings(place: Demo, tcti: str, port: int | None, steps: Steps) -> Settings:
    settings = state.settings(place, tcti, port)
    gateway = settings.gateway
    if port is None and gateway.port and not port_is_free(gateway.host, gateway.port):
        steps.say(f"port {gateway.port} is taken; using a free one (choose with --port)", style="yellow")
        settings = state.settings(place, tcti, 0)
    return settings


def _publish(place: Demo, deployment: Deployment, runtime: Runtime) -> proof.Server:
    """Put certificate and policy where a client finds them."""
    gateway = deployment.settings.gateway
    certificate = None
    if not gateway.insecure_plain_http:
        shutil.copyfile(runtime.path / "gateway" / "gateway.crt", place.certificate)
        certificate = place.certificate
    place.policy.write_text(policy.text(_expected(place, deployment, runtime)), "utf-8")
    host = "localhost" if gateway.host in ("127.0.0.1", "::1", "0.0.0.0") else gateway.host  # noqa: S104 - compared
    return proof.Server(host, gateway.port, certificate, place.api_key.read_text("ascii").strip())


def _expected(place: Demo, deployment: Deployment, runtime: Runtime) -> policy.Expected:
    settings = deployment.settings
    return policy.Expected(
        ek_roots=[swtpm.root_certificate(place.swtpm)],
        registrar=state.registrar_certificate(place),
        region=settings.deployment.region,
        boundary=settings.deployment.boundary,
        site=settings.deployment.site,
        hardware_profile=settings.deployment.hardware_profile,
        model=b64u(deployment.manifest_sha256),
        model_signer=b64u(deployment.served[0].model.signer or b""),
        engine=f"vllm/{deployment.engine_version}",
        engine_arguments=b64u(arguments_digest(deployment.engine.stated_arguments(runtime.path))),
        gateway=f"rlu/{metadata.version('rlu')}",
        origin="plaintext" if settings.gateway.insecure_plain_http else "gateway-memory",
        engine_network="loopback" if settings.lock.engine_network == "namespace" else "host",
    )


def _prove(place: Demo, server: proof.Server, steps: Steps, console: Console) -> int:
    opened = proof.open_session(server)
    steps.say(f"session {opened.session} opened for a fresh nonce, signed before any answer")
    steps.say(f"asking: {QUESTION}")
    console.print("          > ", end="", style="cyan")
    where = proof.ask(
        server,
        opened.session,
        state.MODEL_NAME,
        QUESTION,
        lambda piece: console.print(escape(piece), end="", style="cyan"),
    )
    console.print()
    statement = proof.receipt(server, where)
    usage = statement.get("rlu_usage")
    tokens = f", {usage['output_tokens']} tokens" if isinstance(usage, dict) else ""
    steps.say(f"receipt {where.rsplit('/', 1)[1]} of the session: {statement['rlu_status']}{tokens}")
    proof.close_session(server, opened.session)
    steps.say(
        "verifying the running server from outside: [bold]rlu verify[/bold], with a nonce and a request of its own"
    )
    code = proof.verify(server, place.policy, place.api_key, place.bundle, PROBE)
    if code == proof.WAIVED:
        steps.say(
            "verified, but for what the policy waives: an emulated TPM is no hardware (exit code 11)",
            style="yellow",
        )
        return 0
    if code == proof.VERIFIED:
        steps.say("verified", style="green")
        return 0
    steps.say(f"[red]the verifier rejects this server (exit code {code}); see the tree above[/red]")
    return code
