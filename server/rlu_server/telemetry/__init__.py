"""Counters for a vendor, if the operator opted in: a fixed list, coarse, signed, sent by a job; docs/telemetry.md has every field."""
