"""`rlu preflight`: whether this node can serve, or a cluster take the chart, and what to do where not. Changes nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from rlu_attestation.cli.output import fail, print_json
from rlu_attestation.errors import RluError
from rlu_attestation.profiles import BUILT_IN
from rlu_server import preflight
from rlu_server.cli import api_server
from rlu_server.cli.findings import RESULTS, lines
from rlu_server.lock import rlu_lock
from rlu_server.outreach.http import Unreachable
from rlu_server.preflight import Finding
from rlu_server.preflight import cluster as clusters

app = typer.Typer(add_completion=False)

ROOT = Path("/")


class Unusable(RluError):
    """The command line cannot be followed."""

    exit_code = 2


@app.command("preflight")
def command(
    profile: Annotated[
        str | None, typer.Option(help=f"Hardware profile to satisfy: {', '.join(BUILT_IN)}.")
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="File or directory of weights: measure how fast it reads (10 s, 2 GiB at most)."),
    ] = None,
    cluster: api_server.ClusterOption = False,
    namespace: api_server.NamespaceOption = "rlu",
    tpm_resource: Annotated[
        str, typer.Option(help="With --cluster: the TPM's resource (attestation.tpm.resource).")
    ] = "smarter-devices/tpmrm0",
    label: Annotated[
        str, typer.Option(help="With --cluster: label of certified nodes (hardware.certifiedLabel).")
    ] = "rlu-certified",
    pull_secret: Annotated[
        str, typer.Option(help="With --cluster: name of the Secret to pull with.", show_default=False)
    ] = "",
    image: Annotated[
        list[str] | None,
        typer.Option(
            help="With --cluster: an image; tells how many nodes hold it. Repeatable.", show_default=False
        ),
    ] = None,
    context: api_server.ContextOption = "",
    api_address: api_server.AddressOption = "",
    api_ca: api_server.CaOption = None,
    api_token: api_server.TokenOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON value.")] = False,
) -> None:
    """Check this node: GPUs, processor, memory, kernel, TPM and TEE, storage. The answer names no host, serial number or path.

    With --cluster, check the cluster that the kubeconfig leads to: version, rights, nodes, devices, labels, storage, network policies, Pod
    Security, operators, images. It asks as you, changes nothing, and counts nodes without naming them.

    Exit codes: 0 nothing to do, 40 warnings, 41 errors, 2 usage.
    """
    if profile is not None and profile not in BUILT_IN:
        refusal = Unusable(
            "preflight.profile", f"--profile: {profile!r} is not known; known are {', '.join(BUILT_IN)}"
        )
        fail(refusal, as_json=as_json)
        raise typer.Exit(refusal.exit_code)
    known = None if profile is None else (profile, BUILT_IN[profile])
    if cluster:
        if weights is not None:
            raise typer.BadParameter("--weights is about this node, not about a cluster")
        wish = clusters.Wish(
            namespace=namespace,
            profile=known,
            tpm_resource=tpm_resource,
            certified_label=label,
            pull_secret=pull_secret,
            images=tuple(image or ()),
        )
        found = of_cluster(api_server.server(context, api_address, api_ca, api_token), wish)
    else:
        node = preflight.look(
            ROOT, landlock=rlu_lock.landlock_abi(), is_root=os.geteuid() == 0, weights=weights
        )
        found = preflight.judge(node, known)
    code = show(found, {"profile": profile}, as_json=as_json)
    if code:
        raise typer.Exit(code)


def of_cluster(server: clusters.Server, wish: clusters.Wish) -> list[Finding]:
    """Findings about a cluster; one if it cannot be asked."""
    try:
        return clusters.judge_cluster(clusters.look_at(server, wish), wish)
    except Unreachable as refusal:
        return [clusters.unreachable(refusal.message)]


def show(found: list[Finding], about: dict[str, Any], *, as_json: bool) -> int:
    """Print findings; the exit code that they deserve."""
    code = preflight.exit_code(found)
    if as_json:
        findings = [finding.to_json() for finding in found]
        print_json({"result": RESULTS[code], "exit_code": code, **about, "findings": findings})
    else:
        print("\n".join(lines(found)))
    return code
