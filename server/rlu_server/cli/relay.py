"""`rlu relay`: the way out for a serving pod that has none."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from rlu_attestation.cli.output import fail
from rlu_attestation.errors import RluError
from rlu_server.outreach.cluster import Cluster
from rlu_server.outreach.http import BadAddress, target
from rlu_server.outreach.listening import serve_until_told
from rlu_server.outreach.relay import Broker, KeySet, Plan, Relay

app = typer.Typer(name="relay", help="Ask outside for a serving pod that cannot.", add_completion=False)


@app.command()
def relay(
    listen: Annotated[str, typer.Option(help="unix:/PATH or ADDRESS:PORT.")],
    token_review: Annotated[
        bool, typer.Option("--token-review", help="Pass TokenReviews to the API server.")
    ] = False,
    jwks: Annotated[
        list[str] | None,
        typer.Option("--jwks", metavar="FILE=URL", help="Keep this file the issuer's key set; repeatable."),
    ] = None,
    cluster_jwks: Annotated[
        Path | None, typer.Option(help="Keep this file the cluster's own key set.")
    ] = None,
    every: Annotated[int, typer.Option(min=10, help="Seconds between looks at key sets.")] = 300,
    otlp: Annotated[str, typer.Option(help="https:// address of the OTLP collector for telemetry.")] = "",
    ca: Annotated[
        Path | None, typer.Option(help="CAs of issuers and collector (PEM); default: the system's.")
    ] = None,
    broker: Annotated[str, typer.Option(help="https:// address of the key broker of encrypted models.")] = "",
    broker_ca: Annotated[
        Path | None, typer.Option(help="The broker's CAs (PEM); default: the system's.")
    ] = None,
    broker_proxy: Annotated[
        str, typer.Option(help="HTTP proxy on the way to the broker, http://host:port.")
    ] = "",
    api_server: Annotated[
        str, typer.Option(help="Address of the API server; default: that of the cluster this pod is in.")
    ] = "",
    api_ca: Annotated[Path | None, typer.Option(help="The API server's CA, with --api-server.")] = None,
    api_token: Annotated[
        Path | None, typer.Option(help="File with our own token, with --api-server.")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate to serve TLS with (PEM).")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key (PEM).")] = None,
) -> None:
    """Pass on what a serving pod asks, TokenReviews, telemetry and key requests, and keep key sets current.

    Only what is named here is ever contacted. It ends at SIGTERM or Ctrl-C; requests that are in flight then have
    20 seconds to end, or until a second one.
    """
    try:
        if (tls_cert is None) != (tls_key is None):
            raise BadAddress("relay.tls", "--tls-cert and --tls-key belong together")
        certificate = None if tls_cert is None or tls_key is None else (tls_cert, tls_key)
        cluster = _cluster(api_server, api_ca, api_token) if token_review or cluster_jwks else None
        sets = [_key_set(text) for text in jwks or ()]
        if cluster is not None and cluster_jwks is not None:
            sets.append(KeySet(cluster_jwks, cluster.jwks_url, cluster=True))
        if otlp:
            target(otlp)
        if broker:
            target(broker)
        asked = Broker(broker, broker_ca, broker_proxy) if broker else None
        plan = Plan(cluster, sets, float(every), ca, otlp, asked)
        try:
            running = Relay(plan, _address(listen), certificate)
        except (OSError, ValueError, OverflowError) as error:
            raise BadAddress("relay.listen", f"cannot listen on {listen}: {error}") from error
    except RluError as error:
        fail(error, as_json=False)
        raise typer.Exit(error.exit_code) from error
    serve_until_told(running)


def _address(listen: str) -> str:
    if not listen.startswith("unix:/") and not listen.rpartition(":")[2].isdecimal():
        raise BadAddress("relay.listen", "--listen takes unix:/PATH or ADDRESS:PORT")
    return listen


def _cluster(url: str, ca: Path | None, token: Path | None) -> Cluster:
    if not url:
        return Cluster.around(os.environ)
    if ca is None or token is None:
        raise BadAddress("relay.cluster", "--api-server takes --api-ca and --api-token")
    target(url)
    return Cluster(url.rstrip("/"), ca, token)


def _key_set(text: str) -> KeySet:
    path, separator, url = text.partition("=")
    if not separator or not path:
        raise BadAddress("relay.jwks", "--jwks takes FILE=URL")
    target(url)
    return KeySet(Path(path), url)
