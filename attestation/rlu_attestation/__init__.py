"""RLU verifier."""
