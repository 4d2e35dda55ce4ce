"""Algorithm identifiers, as every TPM structure holds them: read, and refused unless known."""

from __future__ import annotations

from rlu_attestation.cursor import Cursor
from rlu_attestation.errors import Unsupported
from rlu_attestation.tpm.constants import HASHES, Alg

MAX_STRUCTURE = 4096
"""Largest structure that is read, in bytes."""


def read_algorithm(cursor: Cursor, field: str, allowed: frozenset[Alg]) -> Alg:
    value = cursor.u16(field)
    try:
        algorithm = Alg(value)
    except ValueError:
        algorithm = None
    if algorithm not in allowed:
        raise Unsupported(cursor.code, f"{field}: algorithm 0x{value:04x} is not supported here")
    return algorithm


def read_hash(cursor: Cursor, field: str) -> Alg:
    return read_algorithm(cursor, field, frozenset(HASHES))
