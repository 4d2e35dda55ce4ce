"""The settings of `[licence]` and `[telemetry]`: the files a vendor gives, and what two jobs may send. A part of `settings.py`."""

from __future__ import annotations

from pathlib import Path

from rlu_server.sections import Section


class Licence(Section):
    """A vendor's licence. Without a file there is none, and nothing depends on one."""

    file: Path | None = None
    """The signed licence (`rlu licence install`). Where it is set, sessions are opened only while it is in force."""
    vendor_keys: tuple[Path, ...] = ()
    """The vendor's public keys (PEM, Ed25519 or P-256). Only what one of them signed is a licence."""
    answer_file: Path | None = None
    """The vendor's last answer to `rlu licence validate`. None: below the state directory."""
    validation_url: str = ""
    """Where `rlu licence validate` asks; https. Empty: nowhere."""
    ca_file: Path | None = None
    """CAs of that address (PEM); None: the system's."""
    proxy: str = ""
    """HTTP proxy on the way there, `http://host:port`, which is asked for a tunnel. Empty: none."""


class Telemetry(Section):
    """Counters for a vendor, sent by a job of its own (`rlu telemetry send`), never by what serves."""

    opt_in: bool = False
    """Nothing is sent unless this is true."""
    url: str = ""
    """Where reports go; https."""
    ca_file: Path | None = None
    """CAs of that address (PEM); None: the system's."""
    proxy: str = ""
    """HTTP proxy on the way there, `http://host:port`, which is asked for a tunnel. Empty: none."""
    key: Path | None = None
    """The key that signs reports (`rlu telemetry keygen`), Ed25519 in PEM; not the instance's. None: below the state directory."""
    metrics: str = ""
    """Where the job reads the counters: `http://address:port` or `unix:/path`. Empty: as `[metrics] listen` says."""
