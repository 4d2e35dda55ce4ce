"""Weights that are released to attested hardware only: sealed models, the broker that holds their keys, and the instance's side of it."""
