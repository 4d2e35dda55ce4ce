"""A pytest plugin: which tests run which lines of the modules under mutation, so that a mutant is only shown to tests that could notice."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest

Lines = dict[tuple[str, int], set[str]]


class Recorder:
    """Fills `seen`: (file, line) to the ids of the tests that ran it, and `took`: seconds of each test."""

    def __init__(self, files: set[str]) -> None:
        self.files = files
        self.seen: Lines = defaultdict(set)
        self.took: dict[str, float] = {}
        self.failed: list[str] = []
        self._test = ""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[Any]:
        self._test = item.nodeid
        sys.settrace(self._call)
        try:
            return (yield)
        finally:
            sys.settrace(None)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.took[report.nodeid] = self.took.get(report.nodeid, 0.0) + report.duration
        if report.failed:
            self.failed.append(report.nodeid)

    def _call(self, frame: FrameType, event: str, argument: object) -> Any:
        return self._line if frame.f_code.co_filename in self.files else None

    def _line(self, frame: FrameType, event: str, argument: object) -> Any:
        if event == "line":
            self.seen[frame.f_code.co_filename, frame.f_lineno].add(self._test)
        return self._line
