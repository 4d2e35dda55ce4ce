"""The licence: a file that a vendor signed, verified here without a network; docs/licence.md says what it does and cannot do."""
