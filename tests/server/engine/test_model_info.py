from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlu_server.engine import environment, model_info

NOTE = {
    "hash": "ab12",
    "modelinfo": {"architecture": "Qwen3", "supports_pp": True, "methods": ["a", "b"], "x": None},
}


def noted(scratch: Path, name: str = "m-C.json", content: object = NOTE) -> Path:
    place = scratch / model_info.PLACE
    place.mkdir(parents=True, exist_ok=True)
    (place / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return place / name


def test_place_is_where_vllm_looks() -> None:
    variables = environment._places(Path("/s"))
    assert Path("/s") / model_info.PLACE == Path(variables["VLLM_CACHE_ROOT"]) / "modelinfos"


def test_round_trip(tmp_path: Path) -> None:
    first, second, store = tmp_path / "1", tmp_path / "2", tmp_path / "store"
    (second / "c").mkdir(parents=True)
    noted(first)
    model_info.keep(first, store)
    made = model_info.put_back(store, second)
    assert [path.relative_to(second).as_posix() for path in made] == [
        "c/vllm",
        "c/vllm/modelinfos",
        "c/vllm/modelinfos/m-C.json",
    ]
    assert json.loads(made[-1].read_text()) == NOTE


def test_nothing_kept_nothing_made(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    model_info.keep(tmp_path / "absent", tmp_path / "store")
    assert model_info.put_back(tmp_path / "store", tmp_path) == []
    assert not (tmp_path / "c" / "vllm").exists()
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.txt", NOTE),
        ("x y.json", NOTE),
        ("x.json", "not JSON"),
        ("x.json", []),
        ("x.json", {"hash": "a"}),
        ("x.json", {**NOTE, "more": "x"}),
        ("x.json", {"hash": "a", "modelinfo": {"prompt": "some text of somebody"}}),
        ("x.json", {"hash": "a", "modelinfo": {"n": 12345678}}),
        ("x.json", {"hash": "a", "modelinfo": {"n": {"deep": "x"}}}),
        ("x.json", {"hash": "a" * 81, "modelinfo": {}}),
        ("x.json", {"hash": "a", "modelinfo": {str(n): True for n in range(5000)}}),
        ("x.json", "[" * 10000),
    ],
)
def test_only_flags_are_kept(tmp_path: Path, name: str, content: object) -> None:
    noted(tmp_path / "1", name, content)
    model_info.keep(tmp_path / "1", tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_links_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text(json.dumps(NOTE))
    place = tmp_path / "1" / model_info.PLACE
    place.mkdir(parents=True)
    (place / "x.json").symlink_to(outside)
    model_info.keep(tmp_path / "1", tmp_path / "store")
    assert not (tmp_path / "store").exists()
