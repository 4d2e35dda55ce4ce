"""The whole stack, started once a run: `rlu demo` with real vLLM under the lock, and the same with a scripted engine."""

from __future__ import annotations
