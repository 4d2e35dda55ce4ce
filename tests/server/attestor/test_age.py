from __future__ import annotations

from pathlib import Path

import pytest

from rlu_server.attestor.age import made_at
from rlu_server.attestor.errors import NotReady


def test_a_key_keeps_its_age(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    assert made_at(path, "one", 1000) == 1000
    assert made_at(path, "one", 2000) == 1000
    assert path.stat().st_mode & 0o077 == 0


def test_another_key_is_new(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    made_at(path, "one", 1000)
    assert made_at(path, "two", 2000) == 2000
    assert made_at(path, "two", 3000) == 2000


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"created":true,"ueid":"one"}', '{"created":-1,"ueid":"one"}', "\xff"]
)
def test_a_damaged_file_does_not_make_a_key_new(tmp_path: Path, text: str) -> None:
    path = tmp_path / "key.json"
    path.write_text(text, "latin-1")
    with pytest.raises(NotReady) as refused:
        made_at(path, "one", 1000)
    assert refused.value.code == "key.age"
