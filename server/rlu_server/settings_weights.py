"""The settings of `[weights]`. A part of `settings.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from rlu_server.sections import Section


class Weights(Section):
    """Sealed models (`rlu model encrypt`), whose key a broker gives to attested hardware. Nothing here matters to others."""

    broker: str = ""
    """The broker's address; https. In a pod the relay's, with `/broker`. Empty: sealed models are not served."""
    ca_file: Path | None = None
    """CAs of that address (PEM); None: the system's."""
    proxy: str = ""
    """HTTP proxy on the way there, `http://host:port`, which is asked for a tunnel. Empty: none."""
    after_loading: Literal["wipe", "keep"] = "wipe"
    """`wipe`: the opened weights leave memory once engines have loaded them, and a restart asks the broker again. `keep`: they stay."""
