"""Evidence as the hardware gives it, put together: a bare report, quote or document, and beside it what endorses it.

    kind = recognise(data)                                  # "sev-snp", or None
    pieces = join(read_piece(file) for file in files)       # certificates, lists, collateral, reference values, an event log
    assembled = assemble(kind, data, pieces)                # .evidence for `EvidenceContext`, .collateral beside it

`FORMS` has one entry a kind; a new kind is one more. Nothing is verified here. Kinds are imported when they are used.
"""

from __future__ import annotations

from rlu_attestation.assemble.bare import Incomplete
from rlu_attestation.assemble.forms import FORMS, Assembled, Form, assemble, recognise
from rlu_attestation.assemble.pieces import Pieces, join, read_piece

__all__ = [
    "FORMS",
    "Assembled",
    "Form",
    "Incomplete",
    "Pieces",
    "assemble",
    "join",
    "read_piece",
    "recognise",
]
