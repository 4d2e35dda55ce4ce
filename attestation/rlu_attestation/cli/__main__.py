"""`python -m rlu_attestation.cli`: the `rlu` command."""

from rlu_attestation.cli import main

main()
