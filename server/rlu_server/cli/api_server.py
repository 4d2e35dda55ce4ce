"""Options of commands that ask a cluster: which API server, and as whom."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from rlu_server.outreach.cluster import Cluster
from rlu_server.preflight.cluster import Server

ClusterOption = Annotated[bool, typer.Option("--cluster", help="Look at the cluster instead of this node.")]
NamespaceOption = Annotated[str, typer.Option("--namespace", "-n", help="With --cluster: RLU's namespace.")]
ContextOption = Annotated[
    str,
    typer.Option(
        "--context",
        help="With --cluster: the kubeconfig's context; default: the current one.",
        show_default=False,
    ),
]
AddressOption = Annotated[
    str,
    typer.Option(
        "--api-server", help="With --cluster: ask this one, without a kubeconfig.", show_default=False
    ),
]
CaOption = Annotated[
    Path | None, typer.Option("--api-ca", help="With --api-server: its CA.", show_default=False)
]
TokenOption = Annotated[
    Path | None, typer.Option("--api-token", help="With --api-server: file with a token.", show_default=False)
]


def server(context: str, address: str, ca: Path | None, token: Path | None) -> Server:
    """How the API server is asked: as the options say, else as this pod, else by the kubeconfig.

    Raises:
        BadParameter: options that do not belong together.
        BadAddress: `relay.cluster`: neither a kubeconfig nor a pod; `relay.url`.
    """
    from rlu_server.preflight.cluster.connection import by_kubeconfig, by_token  # takes half a second to load

    if address:
        if ca is None or token is None:
            raise typer.BadParameter("--api-server takes --api-ca and --api-token")
        return by_token(Cluster(address.rstrip("/"), ca, token))
    if ca is not None or token is not None:
        raise typer.BadParameter("--api-ca and --api-token belong to --api-server")
    if not context and os.environ.get("KUBERNETES_SERVICE_HOST"):
        return by_token(Cluster.around(os.environ))
    return by_kubeconfig(context)
