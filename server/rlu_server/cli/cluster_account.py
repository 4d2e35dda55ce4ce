"""What the commands of `rlu cluster` have in common: their options, which API server they ask, and as whom; their refusals."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from rlu_attestation.cli.output import fail
from rlu_attestation.errors import RluError
from rlu_server.cluster.api import Api, Misuse
from rlu_server.outreach.cluster import ACCOUNT, Cluster
from rlu_server.outreach.http import target

NamespaceOption = Annotated[
    str, typer.Option(help="Our namespace; default: the one of this pod.", show_default=False)
]
InstanceOption = Annotated[list[str], typer.Option(help="Address of an instance, https://…; repeatable.")]
MapOption = Annotated[str, typer.Option("--configmap", help="The ConfigMap to fill; it has to be there.")]
ServerOption = Annotated[
    str,
    typer.Option(
        help="Address of the API server; default: that of the cluster this pod is in.", show_default=False
    ),
]
CaOption = Annotated[
    Path | None, typer.Option(help="The API server's CA, with --api-server.", show_default=False)
]
TokenOption = Annotated[
    Path | None, typer.Option(help="File with our own token, with --api-server.", show_default=False)
]


@contextmanager
def refusals() -> Iterator[None]:
    """Told in words, with their exit code."""
    try:
        yield
    except RluError as error:
        fail(error, as_json=False)
        raise typer.Exit(error.exit_code) from error


def api_of(roles: tuple[str, ...], namespace: str, server: str, ca: Path | None, token: Path | None) -> Api:
    """The API server, for an account with these roles.

    Raises:
        Misuse: `cluster.address`, `cluster.where`.
        BadAddress: `relay.cluster`, `relay.url`.
    """
    if server:
        if ca is None or token is None:
            raise Misuse("cluster.address", "--api-server takes --api-ca and --api-token")
        target(server)
        cluster = Cluster(server.rstrip("/"), ca, token)
    else:
        cluster = Cluster.around(os.environ)
    if not namespace:
        try:
            namespace = (ACCOUNT / "namespace").read_text("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Misuse("cluster.where", "not in a pod; say --namespace") from error
    return Api(cluster, namespace, roles)
