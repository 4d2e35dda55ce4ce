"""What a test needs and does not find fails the run, unless `RLU_ALLOW_MISSING` names it; then the summary lists it as NOT RUN.

A test asks with `absent("vectors", "…")` when it finds its input missing. No other way of skipping is accepted: a test or module that
skips itself fails.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest

INPUTS = {
    "apiserver": "a Kubernetes API server (KUBEBUILDER_ASSETS)",
    "claude": "Claude Code (scripts/setup.sh test)",
    "codex": "the Codex CLI (scripts/setup.sh test)",
    "engine": "vLLM (scripts/setup.sh test)",
    "fuse": "/dev/fuse, and root or fusermount3 (Debian: fuse3)",
    "gpu": "a GPU with its driver",
    "helm": "Helm's engine, helm-sdkpy (scripts/setup.sh test)",
    "node": "Node.js 20 or later, and the packages of tests/interop and tests/e2e/javascript (scripts/setup.sh test)",
    "openai-agents": "OpenAI's Agents SDK (scripts/setup.sh test)",
    "opencode": "opencode (scripts/setup.sh test)",
    "tpm": "swtpm (scripts/setup.sh test)",
    "vectors": "published attestation evidence (RLU_VECTORS)",
}
"""Name in RLU_ALLOW_MISSING → what it is and how to have it."""

_PREFIX = "NOT RUN: "


def allowed(environment: dict[str, str] | None = None) -> frozenset[str]:
    """The inputs that may be absent, from RLU_ALLOW_MISSING (separated by commas or spaces).

    Raises:
        pytest.UsageError: a name is unknown.
    """
    names = (
        (os.environ if environment is None else environment)
        .get("RLU_ALLOW_MISSING", "")
        .replace(",", " ")
        .split()
    )
    unknown = sorted(set(names) - set(INPUTS))
    if unknown:
        raise pytest.UsageError(
            f"RLU_ALLOW_MISSING: unknown {', '.join(unknown)}; known: {', '.join(sorted(INPUTS))}"
        )
    return frozenset(names)


def absent(name: str, detail: str) -> NoReturn:
    """End the present test: its input `name` is not here. `detail` says what was looked for."""
    if name not in INPUTS:
        raise ValueError(f"{name!r} is no known input")
    if name in allowed():
        pytest.skip(f"{_PREFIX}{name}: {detail}")
    pytest.fail(f"{detail}; needs {INPUTS[name]}, or name {name!r} in RLU_ALLOW_MISSING", pytrace=False)


class Plugin:
    """Turns every other skip into a failure, and counts what was not run."""

    def __init__(self) -> None:
        self.allowed = allowed()
        self.not_run: Counter[str] = Counter()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Iterator[None]:
        report = yield
        if report.skipped and not hasattr(report, "wasxfail"):
            reason = _reason(report)
            if reason.startswith(_PREFIX):
                self.not_run[reason.removeprefix(_PREFIX).partition(":")[0]] += 1
            else:
                _refuse(report, reason)
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> Iterator[None]:
        report = yield
        if report.skipped:
            _refuse(report, _reason(report))
        return report

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if not self.allowed:
            return
        terminalreporter.section("NOT RUN (allowed to be missing)")
        for name in sorted(self.allowed):
            count = self.not_run[name]
            what = f"{count} test{'s' * (count != 1)} NOT RUN" if count else "no test of this run missed it"
            terminalreporter.line(f"{name}: {what}; needs {INPUTS[name]}")


def _reason(report: Any) -> str:
    longrepr = report.longrepr
    text = longrepr[2] if isinstance(longrepr, tuple) else str(longrepr)
    return text.removeprefix("Skipped: ")


def _refuse(report: Any, reason: str) -> None:
    report.outcome = "failed"
    report.longrepr = f"skipped ({reason}), but a test here may not skip: it fails, or says what is absent (tests/absent_inputs.py)"


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Plugin(), "rlu-absent-inputs")
