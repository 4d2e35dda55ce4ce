"""The `rlu` command, with the scripted engine in vLLM's place: `python command.py serve --model ...`.

`SNP_DEVICE` in the environment: the job that opens weights is on a machine whose TEE is the socket of that name (`sealed.chip`).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import deployment

from rlu_attestation.cli import main

if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as patch:
        deployment.stand_in(patch)
        if device := os.environ.get("SNP_DEVICE"):
            deployment.open_on(Path(device), patch)
        main()
