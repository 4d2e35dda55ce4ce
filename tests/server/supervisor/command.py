"""The `rlu` command, with the scripted engine in vLLM's place: `python command.py serve --model ...`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import deployment

from rlu_attestation.cli import main

if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as patch:
        deployment.stand_in(patch)
        main()
