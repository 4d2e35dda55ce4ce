"""The load generator: `client` speaks HTTP, `cpu` reads what processes used, `measure` puts both into one result."""

from loadgen.client import Target, Totals, parse_target
from loadgen.cpu import Usage
from loadgen.measure import Plan, Result, drive, request_bytes

__all__ = ["Plan", "Result", "Target", "Totals", "Usage", "drive", "parse_target", "request_bytes"]
