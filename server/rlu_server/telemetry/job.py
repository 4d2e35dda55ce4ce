"""Composes a report, and sends one. Not opted in: nothing is read, composed or sent.

Signed by a key of its own, not by the instance's: the attestor signs what it knows (FORMATS), and counters are what the gateway says. The
job needs neither the attestor nor its state, so it can be another pod. The key tells the vendor that two reports are of one deployment, and
nothing else; another key is another deployment.
"""

from __future__ import annotations

from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from rlu_attestation.files import Unreadable, read
from rlu_attestation.policy_signature import MAX_KEY, load_private_key
from rlu_server.outreach.letters import JOURNAL, Mailbox
from rlu_server.settings import Settings
from rlu_server.telemetry import counters, report
from rlu_server.telemetry.counters import Unset

MEDIA_TYPE = "application/jose"
KEY = "telemetry-key.pem"


def key_path(settings: Settings) -> Path:
    """Where the signing key is."""
    return settings.telemetry.key or settings.state_dir / KEY


def signing_key(settings: Settings) -> Ed25519PrivateKey:
    """The key of reports.

    Raises:
        Unset: `telemetry.no_key`.
        PolicyError: `policy.key`.
    """
    path = key_path(settings)
    try:
        key = load_private_key(read(path, MAX_KEY))
    except Unreadable as error:
        raise Unset(
            "telemetry.no_key", f"{error.message}; make the key of reports with `rlu telemetry keygen`"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise Unset("telemetry.no_key", f"{path}: reports are signed with Ed25519 (`rlu telemetry keygen`)")
    return key


def compose(settings: Settings, now: int) -> str:
    """The report as it would be sent now.

    Raises:
        RluError: as `signing_key`, `counters.read`, `report.compose`.
    """
    key = signing_key(settings)
    made = report.compose(
        counters.read(counters.address(settings)),
        day=datetime.fromtimestamp(now, timezone.utc).strftime("%Y-%m-%d"),
        version=metadata.version("rlu"),
        key=settings.attestation.holder,
        gpus=settings.attestation.gpu.vendor,
        licensed=settings.licence.file is not None,
        engines=len(settings.fleet()),
    )
    return made.sign(key)


def send(settings: Settings, given: str | None, journal: bool, now: int) -> None:
    """Send a report.

    Args:
        given: one that `compose` made; None: a new one.
        journal: whether to note it below the state directory.

    Raises:
        Unset: `telemetry.off`, `telemetry.url`; nothing was sent.
        RluError: as `compose`; it is not a report of ours (`telemetry.…`); nothing was sent. Or as `Mailbox.post`.
    """
    if not settings.telemetry.opt_in:
        raise Unset("telemetry.off", "telemetry is off ([telemetry] opt_in = false); nothing was sent")
    if not settings.telemetry.url:
        raise Unset("telemetry.url", "set [telemetry] url to where reports go; nothing was sent")
    text = compose(settings, now) if given is None else given
    report.parse(text, signing_key(settings).public_key())
    mailbox = Mailbox(
        "telemetry",
        settings.telemetry.url,
        settings.telemetry.proxy,
        settings.telemetry.ca_file,
        settings.state_dir / JOURNAL if journal else None,
    )
    mailbox.post(text.encode("ascii"), MEDIA_TYPE, now)
