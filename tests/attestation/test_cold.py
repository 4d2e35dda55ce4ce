"""What `rlu verify FILE` imports: nothing of server, network or engine, and no kind of evidence but the one that is here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fakes import amd, aws, intel, nvidia
from fakes.deployment import AT, Deployment

PROGRAM = """
import json, sys
from rlu_attestation.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""
NEVER = (
    "rlu_server",
    "fastapi",
    "starlette",
    "uvicorn",
    "torch",
    "vllm",
    "httpx",
    "httpx2",
    "anyio",
    "pydantic",
    "asyncio",
    "tpm2_pytss",
)
"""Packages that verification of a file has no use for."""
KINDS = ("azure_vtpm", "gcp_vtpm", "nitro", "nvidia", "sev_snp", "tdx")
MOST = 420
"""More modules than any verification imports, in all, with Python's own: what grows beyond it costs every start."""
DATA = bytes(range(64))


def imported(*arguments: object) -> set[str]:
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    found: list[str] = json.loads(ran.stderr.splitlines()[-1])
    return set(found)


def packages(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


def kinds(modules: set[str]) -> set[str]:
    return {kind for kind in KINDS if f"rlu_attestation.evidence.{kind}" in modules}


@pytest.mark.parametrize("form", ["text", "json", "ear"])
def test_a_bundle(tmp_path: Path, form: str) -> None:
    file = tmp_path / "bundle.rlu"
    file.write_bytes(Deployment().bundle(1).encode())
    found = imported("verify", file, "--as-of", AT, "--format", form)
    # Python's own reading of the package's version, for `ear_verifier_id`, brings its mail parser, and that brings sockets.
    network = () if form == "ear" else ("http", "socket", "ssl")
    assert packages(found).isdisjoint({*NEVER, "lxml", *network})
    assert ("rich" in packages(found)) == (form == "text")
    assert kinds(found) == set()
    assert len(found) < MOST


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("sev-snp", amd.parts(amd.Chip(), DATA).item()),
        ("tdx", intel.parts(intel.Platform(), DATA).quote.data),
        ("nitro", aws.parts(aws.Module("nitro"), DATA).document),
    ],
)
def test_bare_evidence(tmp_path: Path, kind: str, data: bytes) -> None:
    file = tmp_path / "evidence.bin"
    file.write_bytes(data)
    found = imported("verify", file, "--as-of", AT, "--json")
    assert packages(found).isdisjoint({*NEVER, "lxml", "socket", "ssl", "rich"})
    assert kinds(found) == {kind.replace("-", "_")}
    assert len(found) < MOST


def test_reference_values_alone_need_the_xml_library(tmp_path: Path) -> None:
    file = tmp_path / "evidence.json"
    file.write_bytes(nvidia.hgx(gpus=1, switches=0).parts(DATA[:32]).item())
    assert "lxml" in packages(imported("verify", file, "--as-of", AT, "--json"))


def test_importing_the_package_imports_nothing() -> None:
    ran = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, rlu_attestation; print(sorted(n for n in sys.modules if n.startswith('rlu')))",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.strip() == "['rlu_attestation']"
