"""Pure decisions of the gateway: no I/O, no clock, no environment, no randomness; all of these come in as arguments."""
