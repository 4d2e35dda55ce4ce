"""`rlu cluster`: what runs beside the instances in a Kubernetes cluster. The chart starts these; each has a service account of its own."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated

import typer

from rlu_attestation.cli.output import print_json
from rlu_attestation.client import Client
from rlu_attestation.collateral.store import Store
from rlu_attestation.collateral.want import FetchError
from rlu_attestation.errors import RluError
from rlu_attestation.files import write_private
from rlu_attestation.profiles import BUILT_IN
from rlu_server import preflight
from rlu_server.cli import cluster_licence
from rlu_server.cli.cluster_account import (
    CaOption,
    InstanceOption,
    MapOption,
    NamespaceOption,
    ServerOption,
    TokenOption,
    api_of,
    refusals,
)
from rlu_server.cluster import labeller, publish, rights, sweep
from rlu_server.cluster.api import Misuse
from rlu_server.cluster.certify import EFFECTS, LABEL, Names
from rlu_server.lock import rlu_lock
from rlu_server.outreach import key_sets
from rlu_server.outreach.http import target, trust
from rlu_server.preflight.findings import ERRORS

app = typer.Typer(
    name="cluster",
    help="Label nodes and publish collateral, in a cluster.",
    no_args_is_help=True,
    add_completion=False,
)
ROOT = Path("/")
LabelOption = Annotated[str, typer.Option("--label", help="Key of the label of certified nodes.")]


@app.command("label")
def label(
    node: Annotated[str, typer.Option(help="Name of the node this pod is on.")],
    profile: Annotated[
        str | None, typer.Option(help=f"Hardware profile to satisfy: {', '.join(BUILT_IN)}.")
    ] = None,
    key: LabelOption = LABEL,
    tpm: Annotated[
        str,
        typer.Option(help="The TPM, such as device:/dev/tpmrm0: its EK certificate goes into the record."),
    ] = "",
    taint: Annotated[
        str, typer.Option(help=f"Taint a node without the label: {' or '.join(EFFECTS)}.", show_default=False)
    ] = "",
    drain: Annotated[
        str,
        typer.Option(
            help="Evict pods with these labels from such a node, by their budgets.", show_default=False
        ),
    ] = "",
    landlock: Annotated[int, typer.Option(min=0, help="Landlock ABI that the lock asks for.")] = 3,
    ignore: Annotated[
        list[str] | None, typer.Option(help="A finding that does not count; repeatable.", show_default=False)
    ] = None,
    every: Annotated[float, typer.Option(min=0.05, help="Seconds between looks.")] = 60,
    once: Annotated[bool, typer.Option("--once", help="Look once, and keep the label when ending.")] = False,
    namespace: NamespaceOption = "",
    api_server: ServerOption = "",
    api_ca: CaOption = None,
    api_token: TokenOption = None,
) -> None:
    """Check this node as `rlu preflight` does, and keep its label true until told to end; then take the label away.

    A node that fails loses the label, and so does one whose hardware is another than was certified, until the annotation LABEL-record is
    removed. What happened is printed as JSON. Exit codes: 0, 2 usage; with --once also 3 the API server did not answer, 10 it said no,
    41 the node has no label.
    """
    with refusals():
        if profile is not None and profile not in BUILT_IN:
            raise Misuse("cluster.profile", f"--profile: known are {', '.join(BUILT_IN)}")
        if taint and taint not in EFFECTS:
            raise Misuse("cluster.taint", f"--taint: one of {', '.join(EFFECTS)}")
        roles = ("labeller", "drain") if drain else ("labeller",)
        api = api_of(roles, namespace, api_server, api_ca, api_token)
        made = labeller.Labeller(
            api=api,
            name=node,
            profile=profile,
            look=lambda: _look(profile, tpm, landlock),
            clock=time.time,
            names=Names(key),
            taint=taint,
            drain=drain,
            ignored=frozenset(ignore or ()),
        )
        if once:
            decision = made.round()
            labeller.say(decision.event, codes=list(decision.codes))
            raise typer.Exit(0 if decision.certified else ERRORS)
        # Blocked and waited for, so that no round is cut in two.
        ends = {signal.SIGTERM, signal.SIGINT}
        signal.pthread_sigmask(signal.SIG_BLOCK, ends)
        made.run(lambda: signal.sigtimedwait(ends, every) is not None)


@app.command("sweep")
def sweep_(
    key: LabelOption = LABEL,
    older: Annotated[
        int,
        typer.Option(min=0, help="Take the label of nodes whose labeller was silent for so many seconds."),
    ] = 1800,
    nodes: Annotated[
        str,
        typer.Option(help="Labels of the nodes to look at, KEY=VALUE,…; default: all.", show_default=False),
    ] = "",
    everything: Annotated[
        bool, typer.Option("--all", help="Leave nothing of the labeller on any node.")
    ] = False,
    namespace: NamespaceOption = "",
    api_server: ServerOption = "",
    api_ca: CaOption = None,
    api_token: TokenOption = None,
) -> None:
    """Take away labels that nobody vouches for any more. Exit codes: 0, 2 usage, 3 the API server did not answer, 10 it said no."""
    with refusals():
        api = api_of(("sweep",), namespace, api_server, api_ca, api_token)
        names = Names(key)
        now = int(time.time())
        found = sweep.forget(api, names, nodes) if everything else sweep.sweep(api, names, now, older, nodes)
        labeller.say("swept", nodes=found)


@app.command("collateral")
def collateral(
    instance: InstanceOption,
    configmap: MapOption,
    within: Annotated[float, typer.Option(min=1, help="Seconds for all of it.")] = 600,
    fetch: Annotated[
        list[str] | None, typer.Argument(metavar="[-- OPTIONS]", help="Options of `rlu collateral fetch`.")
    ] = None,
    namespace: NamespaceOption = "",
    api_server: ServerOption = "",
    api_ca: CaOption = None,
    api_token: TokenOption = None,
) -> None:
    """Fetch what vendors publish about the instances' evidence, and put it into a ConfigMap that they mount.

    What was had is published, also when something could not be, or time was up. Exit codes: 0 all is there; 2 usage; else the worst of
    3 somebody did not answer, 10 somebody said no or something is not authentic, 20, 30 evidence not supported or malformed.
    """
    with refusals(), tempfile.TemporaryDirectory() as place:
        api = api_of(("publish",), namespace, api_server, api_ca, api_token)
        store, codes, ends = Path(place, "collateral"), [0], time.monotonic() + within
        for number, url in enumerate(instance):
            bundle = Path(place, f"{number}.rlu")
            try:
                # Vendors who do not answer at all take half a minute for each piece: the job would be ended with nothing published.
                if (left := ends - time.monotonic()) <= 0:
                    raise _late(within)
                with Client(url) as client:
                    write_private(bundle, client.attestation(secrets.token_bytes(32)).encode())
            except RluError as refusal:
                labeller.say("instance_skipped", instance=number, code=refusal.code)
                codes.append(refusal.exit_code)
                continue
            try:
                codes.append(_fetch(bundle, store, fetch or [], left))
            except subprocess.TimeoutExpired:
                labeller.say("fetch_ended", instance=number, code=_late(within).code)
                codes.append(_late(within).exit_code)
        before = publish.published(api, configmap)
        now = datetime.fromtimestamp(time.time(), timezone.utc)
        files = publish.collateral(Store(store).pieces(), before, now)
        labeller.say(
            "collateral_published", files=len(files), changed=publish.publish(api, configmap, files, before)
        )
    raise typer.Exit(max(codes))


@app.command("key-sets")
def key_sets_(
    jwks: Annotated[list[str], typer.Option(metavar="FILE=URL", help="An issuer's key set; repeatable.")],
    configmap: MapOption,
    ca: Annotated[Path | None, typer.Option(help="CAs of the issuers (PEM); default: the system's.")] = None,
    namespace: NamespaceOption = "",
    api_server: ServerOption = "",
    api_ca: CaOption = None,
    api_token: TokenOption = None,
) -> None:
    """Fetch issuers' key sets, check them, and put them into a ConfigMap that the gateways mount.

    A set that could not be had stays as it was. Exit codes: 0 all are new; 2 usage; else the worst of 3 somebody did not answer, 10 the API
    server said no, 30 an answer is not to be used.
    """
    with refusals():
        wanted = [_key_set(text) for text in jwks]
        api = api_of(("publish",), namespace, api_server, api_ca, api_token)
        # Others of its entries are somebody else's, such as the CAs of clients' certificates.
        held = publish.published(api, configmap, publish.TEXT)
        before = {name: held[name] for name, _ in wanted if name in held}
        files, codes = dict(before), [0]
        for name, url in wanted:
            try:
                files[name], _ = key_sets.fetch(url, trust(ca))
            except RluError as refusal:
                labeller.say("key_set_kept", file=name, code=refusal.code)
                codes.append(refusal.exit_code)
        changed = publish.publish(api, configmap, files, before, publish.TEXT)
        labeller.say("key_sets_published", files=len(files), changed=changed)
    raise typer.Exit(max(codes))


app.command("licence")(cluster_licence.licence)


@app.command("rights")
def rights_(role: Annotated[str, typer.Argument(help=f"One of {', '.join(rights.ROLES)}.")]) -> None:
    """Print what a role may ask of the API server, as rules of RBAC: those of a ClusterRole, and those of a Role in the namespace."""
    with refusals():
        if role not in rights.ROLES:
            raise Misuse("cluster.role", f"known roles are {', '.join(rights.ROLES)}")
        print_json(
            {
                "cluster": rights.rules(role, namespaced=False),
                "namespace": rights.rules(role, namespaced=True, name="NAME"),
            }
        )


def _look(profile: str | None, tpm: str, landlock: int) -> labeller.Seen:
    node = preflight.look(ROOT, landlock=rlu_lock.landlock_abi(), is_root=os.geteuid() == 0)
    found = preflight.judge(node, None if profile is None else (profile, BUILT_IN[profile]))
    endorsement, problems = labeller.endorsement_of(tpm) if tpm else ("", ())
    weak = labeller.weaker_than(landlock, node.kernel.landlock)
    return labeller.Seen(node, (*found, *problems, *weak), endorsement)


def _late(within: float) -> FetchError:
    return FetchError("cluster.fetch_late", f"not all was had within {within:.0f} s")


def _fetch(bundle: Path, store: Path, options: list[str], left: float) -> int:
    """`rlu collateral fetch` in a process of its own, which has no token: what vendors answer is read there. Each piece is kept at once.

    Raises:
        subprocess.TimeoutExpired: it was ended, after the seconds that are left.
    """
    command = [
        sys.executable,
        "-m",
        "rlu_attestation.cli",
        "collateral",
        "fetch",
        str(bundle),
        "-o",
        str(store),
    ]
    return subprocess.run([*command, *options], check=False, timeout=left).returncode


def _key_set(text: str) -> tuple[str, str]:
    name, separator, url = text.partition("=")
    if not separator or not name or "/" in name:
        raise Misuse("cluster.jwks", "--jwks takes FILE=URL")
    target(url)
    return name, url
