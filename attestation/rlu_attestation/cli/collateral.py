"""`rlu collateral`: what vendors publish, fetched on request, and bundles that verify without a network.

    rlu collateral fetch bundle.rlu -o collateral/                                  on a machine with a network
    rlu collateral fetch bundle.rlu -o collateral/ --for-attestor /var/lib/rlu/collateral
    rlu collateral list collateral/
    rlu collateral bundle bundle.rlu --collateral collateral/ --policy policy.toml -o offline.rlu

`fetch` is the only command here that uses the network.
"""

from __future__ import annotations

import ssl
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from rlu_attestation import bundle as bundles
from rlu_attestation.cli.arguments import JsonOption, moment
from rlu_attestation.cli.output import console, print_json
from rlu_attestation.collateral import listing
from rlu_attestation.collateral.bundling import complete
from rlu_attestation.collateral.store import Store
from rlu_attestation.collateral.want import PUBLISHERS, Services
from rlu_attestation.files import Unreadable, load_bundle, load_policy, load_policy_parts, read, write_private
from rlu_attestation.policy import Policy
from rlu_attestation.printing import printable
from rlu_attestation.verdict import Result
from rlu_attestation.verifier import Context, verify

NOTHING = Services()

app = typer.Typer(
    name="collateral",
    help="Fetch what vendors publish about hardware, and make bundles that verify offline.",
    no_args_is_help=True,
    add_completion=False,
)

AsOfOption = Annotated[
    str | None,
    typer.Option("--as-of", metavar="TIME", help="Time of every check; default: now.", show_default=False),
]


@app.command("fetch", epilog=f"Hosts that are asked, each with those below it: {', '.join(PUBLISHERS)}.")
def fetch(
    evidence: Annotated[
        Path,
        typer.Argument(help="A bundle, an evidence item, or a report of SEV-SNP or TDX.", show_default=False),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The directory to fill.", show_default=False)],
    stapling: Annotated[
        Path | None,
        typer.Option(
            "--for-attestor",
            metavar="DIR",
            help="Lay it out for an attestor too: its collateral_dir.",
            show_default=False,
        ),
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option("--policy", help="Whose roots count beside the vendors' own.", show_default=False),
    ] = None,
    as_of: AsOfOption = None,
    proxy: Annotated[
        str,
        typer.Option("--proxy", metavar="HOST:PORT", help="An HTTP proxy that tunnels.", show_default=False),
    ] = "",
    timeout: Annotated[
        float, typer.Option("--timeout", min=1, max=600, help="Seconds for each answer.")
    ] = 30,
    ca: Annotated[
        Path | None,
        typer.Option(
            "--ca",
            help="Certificate authorities (PEM) of the servers; default: the system's.",
            show_default=False,
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-host", metavar="HOST", help="A further host to ask; repeatable.", show_default=False
        ),
    ] = None,
    amd_kds: Annotated[
        str, typer.Option("--amd-kds", metavar="URL", help="AMD KDS, or a mirror.")
    ] = NOTHING.amd_kds,
    intel_pcs: Annotated[
        str, typer.Option("--intel-pcs", metavar="URL", help="Intel PCS.")
    ] = NOTHING.intel_pcs,
    intel_crl: Annotated[
        str, typer.Option("--intel-crl", metavar="URL", help="Intel's root list.")
    ] = NOTHING.intel_crl,
    pccs: Annotated[
        str,
        typer.Option("--pccs", metavar="URL", help="A PCCS, in the place of both.", show_default=False),
    ] = "",
    nvidia_rim: Annotated[
        str, typer.Option("--nvidia-rim", metavar="URL", help="NVIDIA's RIM service.")
    ] = NOTHING.nvidia_rim,
    nvidia_ocsp: Annotated[
        str, typer.Option("--nvidia-ocsp", metavar="URL", help="NVIDIA's OCSP responder.")
    ] = NOTHING.nvidia_ocsp,
    as_json: JsonOption = False,
) -> None:
    """Fetch what vendors publish about evidence: AMD (KDS), Intel (PCS or PCCS), NVIDIA (RIM, OCSP), and lists that certificates name.

    Uses the network, over https only. Every answer is checked before it is written; what is there already is not asked for again.

    Exit codes: 0 all is here, 3 something could not be had, 10 something is not authentic, 20, 30 evidence not supported or malformed.
    """
    from urllib.parse import urlsplit

    from rlu_attestation.collateral.http import Network
    from rlu_attestation.collateral.run import fetch as run
    from rlu_attestation.collateral.stapling import lay_out
    from rlu_attestation.collateral.wants import Settings, of_file

    services = Services(
        amd_kds=amd_kds.rstrip("/"),
        intel_pcs=(pccs or intel_pcs).rstrip("/"),
        intel_crl="" if pccs else intel_crl,
        nvidia_rim=nvidia_rim.rstrip("/"),
        nvidia_ocsp=nvidia_ocsp.rstrip("/"),
    )
    named = (amd_kds, pccs or intel_pcs, intel_crl, nvidia_rim, nvidia_ocsp)
    hosts = [*(urlsplit(url).hostname or "" for url in named), *(host.lower() for host in allow_host or [])]
    accepted = Policy() if policy is None else load_policy(policy)
    at = _at(as_of)
    wants = of_file(read(evidence, bundles.MAX_BUNDLE), Settings(accepted, at, services))
    network = Network(hosts=[host for host in hosts if host], proxy=proxy, timeout_s=timeout, tls=_tls(ca))
    results = []
    for result in run(wants, network, Store(out)):
        results.append(result)
        if as_json:
            continue
        line = Text(printable(result.name))
        if result.checked is None:
            line.append(f": {printable(str(result.failure))}", "red")
        else:
            until = "" if result.checked.until is None else f", until {result.checked.until:%Y-%m-%d %H:%M}Z"
            line.append(f": {'already here' if result.kept else 'fetched'}{until}")
            if result.checked.warning:
                line.append(f"  ! {printable(result.checked.warning)}", "yellow")
        console().print(line)
    laid = () if stapling is None else lay_out(results, out, stapling)
    failures = [result.failure for result in results if result.failure is not None]
    code = max((failure.exit_code for failure in failures), default=0)
    if as_json:
        found = {"exit_code": code, "pieces": [result.to_json() for result in results]}
        print_json(found if stapling is None else {**found, "for_attestor": [str(path) for path in laid]})
    elif stapling is not None:
        console().print(Text(printable(f"{len(laid)} files are in {stapling}, as an attestor reads them.")))
    elif not results:
        console().print(Text("Nothing is published about this evidence that it does not bring itself."))
    raise typer.Exit(code)


@app.command("list")
def list_(
    source: Annotated[
        Path, typer.Argument(metavar="BUNDLE|DIR", help="A bundle, or a directory.", show_default=False)
    ],
    as_of: AsOfOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a bundle or a directory holds, and from when until when each piece answers. Nothing is verified."""
    pieces = Store(source).pieces() if source.is_dir() else _of_bundle(source)
    entries = listing.describe(pieces, datetime.fromtimestamp(_at(as_of), timezone.utc))
    if as_json:
        print_json({"pieces": [entry.to_json() for entry in entries]})
        return
    for entry in entries:
        since, until = (
            "…" if bound is None else f"{bound:%Y-%m-%d %H:%M}Z" for bound in (entry.since, entry.until)
        )
        line = Text(f"{entry.state:<8}", "green" if entry.state == listing.ANSWERS else "yellow")
        line.append(f"  {since} to {until}  {entry.kind}: {printable(entry.what)}", "default")
        console().print(line)
    if not entries:
        console().print(Text("It holds no collateral beside the evidence."))


@app.command("bundle")
def bundle(
    source: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle.", show_default=False)],
    policy: Annotated[
        Path, typer.Option("--policy", help="The policy to verify by, and to put in.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The bundle to write.", show_default=False)],
    collateral: Annotated[
        Path | None,
        typer.Option("--collateral", help="A directory that `fetch` filled.", show_default=False),
    ] = None,
    as_of: AsOfOption = None,
    insecure_accept_software_key: Annotated[
        bool,
        typer.Option("--insecure-accept-software-key", help="Go on when no hardware holds the key."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make one file that verifies without a network, years later with --as-of: evidence, collateral, roots' fingerprints and policy.

    It is verified first, and written only if it verifies; waivers are carried along. Exit codes are those of `rlu verify`.
    """
    accepted, parts = load_policy_parts(policy)
    at = _at(as_of)
    pieces = () if collateral is None else Store(collateral).pieces()
    made = complete(load_bundle(source), pieces, accepted, parts, at)
    data = made.encode()
    verdict = verify(
        Context(
            bundle=bundles.parse(data),
            policy=accepted,
            at=at,
            insecure_accept_software_key=insecure_accept_software_key,
        )
    )
    fits = verdict.result in (Result.VERIFIED, Result.WAIVED)
    if fits:
        write_private(out, data)
    digest = accepted.digest.hex()
    if as_json:
        print_json(
            {
                "result": verdict.result.value,
                "exit_code": verdict.exit_code,
                "written": str(out) if fits else None,
                "failures": [{"code": step.code, "detail": step.detail} for step in verdict.failures],
                "waived": [step.id for step in verdict.waivers],
                "at": at,
                "policy_sha256": digest,
                "roots": [root.hex() for root in made.roots],
                "collateral": len(made.collateral),
            }
        )
    elif fits:
        time_of = datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        _say(f"Written: {out}, {verdict.result.value}, with {len(made.collateral)} pieces of collateral.")
        _say(
            f"It verifies as of {time_of}, by the policy inside it, for who knows its sha256 from elsewhere:"
        )
        _say(f"  rlu verify {out} --as-of {time_of} --bundled-policy {digest}")
    else:
        _say(f"Not written: {source} does not verify by this policy at this time.")
        for step in verdict.failures:
            _say(f"  {step.code}: {step.detail}")
    raise typer.Exit(verdict.exit_code)


def _say(line: str) -> None:
    console().print(Text(printable(line)))


def _of_bundle(path: Path) -> tuple[tuple[str, bytes], ...]:
    return tuple((piece.kind, piece.data) for piece in load_bundle(path).collateral)


def _at(as_of: str | None) -> int:
    return int(time.time()) if as_of is None else moment(as_of)


def _tls(ca: Path | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=None if ca is None else str(ca))
    except (OSError, ssl.SSLError) as error:
        raise Unreadable("file.unreadable", f"cannot read certificate authorities from {ca}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
