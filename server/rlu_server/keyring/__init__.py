"""The operator's side of the attestation key: what `rlu keys` does, without the command line."""

from rlu_server.keyring.asking import ask
from rlu_server.keyring.listing import KeysError, Listed, continuity_chain, listed, running
from rlu_server.keyring.making import accept, activate, create, kind_of

__all__ = [
    "KeysError",
    "Listed",
    "accept",
    "activate",
    "ask",
    "continuity_chain",
    "create",
    "kind_of",
    "listed",
    "running",
]
