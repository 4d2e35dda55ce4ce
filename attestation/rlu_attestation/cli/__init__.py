"""The `rlu` command. Commands are loaded by name when they are called, so that `rlu verify` never imports the server."""

from __future__ import annotations

from rlu_attestation.cli.app import main

__all__ = ["main"]
