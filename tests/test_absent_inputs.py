"""The rule about absent inputs, held by runs of pytest on small test files."""

from __future__ import annotations

from pathlib import Path

import pytest

import absent_inputs

pytest_plugins = ["pytester"]

LACKING = "from absent_inputs import absent\ndef test_it():\n    absent('vectors', 'nothing at /x')\n"


def run(pytester: pytest.Pytester, source: str, missing: str | None = None) -> pytest.RunResult:
    pytester.makepyfile(source)
    if missing is not None:
        pytester._monkeypatch.setenv("RLU_ALLOW_MISSING", missing)
    else:
        pytester._monkeypatch.delenv("RLU_ALLOW_MISSING", raising=False)
    pytester._monkeypatch.setenv("PYTHONPATH", str(Path(absent_inputs.__file__).parent))
    return pytester.runpytest_subprocess("-p", "absent_inputs", "-p", "no:cacheprovider")


def test_what_is_absent_fails_and_says_how_to_have_it(pytester: pytest.Pytester) -> None:
    result = run(pytester, LACKING)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*nothing at /x; needs published attestation evidence (RLU_VECTORS)*"])


def test_what_may_be_absent_is_listed(pytester: pytest.Pytester) -> None:
    result = run(pytester, LACKING, "gpu, vectors")
    result.assert_outcomes(skipped=1)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["*NOT RUN*", "gpu: no test of this run missed it*", "vectors: 1 test NOT RUN*"]
    )


def test_another_input_may_not_be_absent(pytester: pytest.Pytester) -> None:
    run(pytester, LACKING, "gpu").assert_outcomes(failed=1)


@pytest.mark.parametrize(
    "source",
    [
        "import pytest\ndef test_it():\n    pytest.skip('no time')\n",
        "import pytest\n@pytest.mark.skip(reason='no time')\ndef test_it():\n    pass\n",
        "import pytest\n@pytest.fixture\ndef it():\n    pytest.skip('no time')\ndef test_it(it):\n    pass\n",
        "import pytest\npytest.skip('no time', allow_module_level=True)\n",
        "import pytest\npytest.importorskip('no_such_module')\n",
        "import unittest\nclass T(unittest.TestCase):\n    @unittest.skip('no time')\n    def test_it(self):\n        pass\n",
    ],
)
def test_no_other_way_of_skipping_passes(pytester: pytest.Pytester, source: str) -> None:
    result = run(pytester, source, "vectors")
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*a test here may not skip*"])


def test_unknown_names_refuse(pytester: pytest.Pytester) -> None:
    result = run(pytester, LACKING, "vektors")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*unknown vektors; known: apiserver,*"])


def test_misuse_is_an_error() -> None:
    with pytest.raises(ValueError, match="no known input"):
        absent_inputs.absent("weather", "it rains")
