"""Removes every single check of the verifier, one at a time, and expects a test to turn red each time.

    python tests/mutation/run.py [--scope NAME|default|all] [--only TEXT] [--jobs N] [--limit SECONDS] [--list]

First the tests run once, unchanged, while it is recorded which test runs which line. Then every mutant runs in a process of its own against
the tests that run its lines, and must fail one. Exit codes: 0 none survived, 1 some did, 2 the tests fail without any change.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import dataclasses
import importlib.abc
import importlib.util
import os
import pickle
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SOURCES = ROOT / "attestation" / "rlu_attestation"
sys.path[:0] = [str(HERE)]

import mutants as finder  # noqa: E402
from mutants import Mutant  # noqa: E402
from scopes import DEFAULT, EQUIVALENT, SCOPES  # noqa: E402

TIMEOUT_S = 60
NOTICED = (1, 2, -signal.SIGALRM)
"""Exit codes that count: a test failed, the module could not be imported, or the tests never ended."""
BROKEN = 99
SLOW = ("test_swtpm.py", "test_the_generator_makes_them_again")
"""Not used here: they need other programs, or a process of their own."""
NOT_USED = "not hypothesis and not tpm and not vectors"
"""Nor are tests that draw their input: what they notice is luck, and what they take depends on how busy the machine is."""


@dataclass(frozen=True)
class Baseline:
    """What the unchanged tests do."""

    seen: dict[tuple[str, int], set[str]]
    took: dict[str, float]
    failed: list[str]


def pytest_arguments(tests: list[str]) -> list[str]:
    """For a run as small as possible; the environment keeps plugins from being loaded by themselves."""
    settings = ["-q", "--no-header", "-c", str(HERE / "settings.ini"), "--rootdir", str(ROOT), "-m", NOT_USED]
    plugins = ["-p", "no:cacheprovider", "-p", "_hypothesis_pytestplugin"]
    return [*settings, *plugins, *(a for name in SLOW for a in ("--deselect", name)), *tests]


def main() -> int:
    arguments = _arguments()
    started = time.monotonic()
    survivors: list[str] = []
    made = 0
    names = {"default": list(DEFAULT), "all": list(SCOPES)}.get(arguments.scope, [arguments.scope])
    os.chdir(ROOT)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    for name in names:
        sources, tests = SCOPES[name]
        files = sorted({path for pattern in sources.split() for path in SOURCES.glob(pattern)})
        found = [m for path in files for m in finder.find(_module(path), path.read_text("utf-8"))]
        found = [m for m in found if arguments.only in m.name and not _is_equivalent(m)]
        if arguments.list:
            print("\n".join(m.name for m in found))
            continue
        baseline = _baseline([str(ROOT / "tests" / "attestation" / test) for test in tests.split()], files)
        if baseline is None or baseline.failed:
            print(f"{name}: the tests fail without any change: {baseline.failed if baseline else ''}")
            return 2
        print(f"{name}: {len(found)} mutants, {len(baseline.took)} tests, {time.monotonic() - started:.0f} s")
        _preload()
        if not _control(found, baseline):
            print(f"{name}: an unchanged module does not pass where mutants run")
            return 2
        made += len(found)
        survivors += _run_all(found, baseline, arguments.jobs, started + arguments.limit)
    print(f"{made} mutants, {len(survivors)} survived, {time.monotonic() - started:.0f} s")
    for name in survivors:
        print(f"SURVIVED {name}")
    return 1 if survivors else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Remove every check of the verifier, one at a time.")
    parser.add_argument("--scope", choices=[*SCOPES, "default", "all"], default="default")
    parser.add_argument("--only", default="", help="only mutants whose name holds this")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument(
        "--limit", type=float, default=1800.0, help="seconds; what is left then counts as survived"
    )
    parser.add_argument("--list", action="store_true", help="list the mutants and do nothing")
    return parser.parse_args()


def _module(path: Path) -> str:
    parts = path.relative_to(SOURCES.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _file(module: str) -> str:
    path = SOURCES.parent.joinpath(*module.split("."))
    return str(path / "__init__.py" if path.is_dir() else path.with_suffix(".py"))


def _is_equivalent(mutant: Mutant) -> bool:
    return any(
        mutant.module.endswith(module) and mutant.kind == kind and text in mutant.shown
        for module, kind, text in EQUIVALENT
    )


# --- running ------------------------------------------------------------------------------------------------------------


def _baseline(tests: list[str], files: list[Path]) -> Baseline | None:
    """Run the tests unchanged in a process of their own, with the recorder."""
    with tempfile.NamedTemporaryFile() as result:
        child = os.fork()
        if child == 0:
            _quiet()
            import pytest
            from coverage import Recorder

            recorder = Recorder({str(path) for path in files})
            pytest.main(pytest_arguments(tests), plugins=[recorder])
            found = Baseline(dict(recorder.seen), recorder.took, recorder.failed)
            Path(result.name).write_bytes(pickle.dumps(found))
            os._exit(0)
        os.waitpid(child, 0)
        data = Path(result.name).read_bytes()
    # What was just written by this program itself.
    return pickle.loads(data) if data else None


def _run_all(found: list[Mutant], baseline: Baseline, jobs: int, deadline: float) -> list[str]:
    survivors: list[str] = []
    running: dict[int, Mutant] = {}
    waiting = list(reversed(found))
    while waiting or running:
        while waiting and len(running) < jobs:
            mutant = waiting.pop()
            tests = _tests_for(mutant, baseline)
            if not tests or time.monotonic() > deadline:
                survivors.append(mutant.name + ("" if tests else " (no test runs it)"))
                continue
            running[_start(mutant, tests)] = mutant
        if running:
            child, status = os.wait()
            mutant = running.pop(child)
            code = os.waitstatus_to_exitcode(status)
            if code in NOTICED:
                continue
            survivors.append(mutant.name if code == 0 else f"{mutant.name} (could not be tried: {code})")
            print(f"  survived: {survivors[-1]}", flush=True)
    return survivors


def _control(found: list[Mutant], baseline: Baseline) -> bool:
    """Whether an *unchanged* module passes where the mutants run: else everything would seem to be noticed."""
    for mutant in found:
        tests = _tests_for(mutant, baseline)
        if tests:
            tree = ast.parse(Path(_file(mutant.module)).read_text("utf-8"))
            child = _start(dataclasses.replace(mutant, build=lambda tree=tree: tree), tests)
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return False


def _tests_for(mutant: Mutant, baseline: Baseline) -> list[str]:
    """Those that run the most telling line first, and the quick ones of them first."""
    file = _file(mutant.module)
    ordered: dict[str, None] = {}
    for line in mutant.lines:
        running = baseline.seen.get((file, line), set())
        ordered.update(dict.fromkeys(sorted(running, key=lambda test: baseline.took.get(test, 0.0))))
    return list(ordered)


def _start(mutant: Mutant, tests: list[str]) -> int:
    child = os.fork()
    if child:
        return child
    signal.alarm(TIMEOUT_S)  # a mutant that never ends is noticed too
    code = BROKEN
    with contextlib.suppress(BaseException):
        _quiet()
        import pytest

        sys.meta_path.insert(
            0, _Changed(mutant.module, compile(mutant.build(), _file(mutant.module), "exec"))
        )
        files = sorted({test.partition("::")[0] for test in tests})
        code = int(pytest.main(["-x", *pytest_arguments(files)], plugins=[_Only(tests)]))
    os._exit(code)


class _Only:
    """A pytest plugin: these tests in this order. Ids of tests are no good as arguments where they hold what a parameter holds."""

    def __init__(self, tests: list[str]) -> None:
        self._order = {test: place for place, test in enumerate(tests)}

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items[:] = sorted(
            (item for item in items if item.nodeid in self._order), key=lambda item: self._order[item.nodeid]
        )


def _quiet() -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)


def _preload() -> None:
    """Import what every test needs and no mutant changes, once, before the processes part."""
    import asyncio
    import unittest.mock

    import cbor2
    import hypothesis.strategies
    import pytest
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

    sys.path[:0] = [str(ROOT / "tests")]
    from fakes import tpm  # knows nothing of the code under test

    for label in ("tpm/ek", "ca/Vendor TPM Root"):
        tpm.private_key("rsa2048", label)  # the slowest thing that the tests make
    loaded = (asyncio, unittest.mock, cbor2, hypothesis.strategies, pytest, x509, ec)
    assert not any(name.startswith("rlu_attestation") for name in sys.modules), loaded


class _Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives one module its changed code."""

    def __init__(self, module: str, code: CodeType) -> None:
        self._module = module
        self._code = code

    def find_spec(
        self, name: str, path: object, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != self._module:
            return None
        file = Path(_file(name))
        places = [str(file.parent)] if file.name == "__init__.py" else None
        return importlib.util.spec_from_file_location(
            name, file, loader=self, submodule_search_locations=places
        )

    def exec_module(self, module: ModuleType) -> None:
        exec(self._code, module.__dict__)


if __name__ == "__main__":
    sys.exit(main())
