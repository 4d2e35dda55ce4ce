"""The settings of `[licence]`, `[telemetry]` and `[update]`: what a vendor gives, and what three jobs may reach. Part of `settings.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

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


class Update(Section):
    """Where new versions of the model come from; fetched by a job of its own (`rlu update`), never by what serves."""

    source: str = ""
    """A directory, `https://…`, `s3://bucket/prefix`, `oci://registry/name:tag`, `hub://owner/name@revision`. Empty: no updates."""
    endpoint: str = ""
    """Address of the S3 service, the hub's mirror, or a registry that is not at its own name. Empty: the usual one."""
    region: str = "us-east-1"
    """Of the S3 service."""
    allow: tuple[Annotated[str, Field(pattern=r"^[^/:\s]+:\d{1,5}$")], ...] = ()
    """`host:port` of places that the source may send the job to: where blobs are, a token service. Others are refused."""
    credentials: Path | None = None
    """Directory with the files `access_key_id`, `secret_access_key`, `session_token`; `username`, `password`; or `token`."""
    ca_file: Path | None = None
    """The only CAs (PEM) that are believed; None: the system's."""
    proxy: str = ""
    """HTTP proxy on the way, `http://host:port`, which is asked for a tunnel. Empty: none."""
    rate_bytes: Annotated[int, Field(ge=0)] = 0
    """Most bytes a second; 0: no limit."""
    reserve_bytes: Annotated[int, Field(ge=0)] = 1 << 30
    """Bytes that stay free on the disk."""
    keep: Annotated[int, Field(ge=0, le=100)] = 1
    """So many versions that were served before stay, to go back to."""
    rollout: Annotated[str, Field(pattern=r"^(|[a-z0-9-]+/[a-z0-9.-]+)$")] = ""
    """`namespace/name` of the StatefulSet that is rolled after a switch. Empty: `rlu serve` on this machine sees the switch by itself."""
