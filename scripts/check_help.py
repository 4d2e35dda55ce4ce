"""Holds the documents against the command line: what they show must exist, and what exists must be shown.

    python scripts/check_help.py

Every `rlu …` line in a code block of the documents must name a command, subcommands and options that the real command has; every
command of `rlu` must appear in README.md; every `make` target that a document names must be in the Makefile; every setting must be
in server/rlu.example.toml. Exit codes: 0 all true, 1 something is not, each finding on a line of its own.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rlu_attestation.cli.app import COMMANDS, load
from rlu_server.settings import Section, Settings
from rlu_server.settings import load as load_settings

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "attestation/DESIGN.md",
    "server/DESIGN.md",
    "benchmarks/README.md",
    "docs/kubernetes.md",
    "docs/licence.md",
    "docs/telemetry.md",
    "helm/DESIGN.md",
)
EVERYWHERE = {"--help", "--install-completion", "--show-completion"}
COMMAND = re.compile(r"^(?:\$ )?(rlu [a-z-]+(?: .*)?)$")
TARGET = re.compile(r"\bmake ([a-z-]+)\b")
CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)


def code_lines(document: Path) -> Iterator[str]:
    """Lines of code in a document: of its code blocks and of its inline code, continuation lines joined."""
    for block in CODE.findall(document.read_text("utf-8")):
        yield from re.sub(r"\\\n\s*", " ", block).strip("`").splitlines()


def check_command(line: str) -> Iterator[str]:
    """Findings about one shown command line."""
    words = shlex.split(re.split(r"\s+#\s|\s[|>]\s", line)[0])[1:]
    if not words or words[0].startswith("-"):
        return
    if words[0] not in COMMANDS:
        yield f"`{line}`: there is no command {words[0]}"
        return
    command: Any = load(words[0])
    rest = words[1:]
    while rest and rest[0] in getattr(command, "commands", {}):
        command, rest = command.commands[rest[0]], rest[1:]
    known = {
        option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
    } | EVERYWHERE
    for word in rest:
        if word == "--":
            return
        if word.startswith("--") and word.split("=")[0] not in known:
            yield f"`{line}`: {words[0]} has no option {word}"


def settings_of(section: type[Section], prefix: str = "") -> Iterator[str]:
    """Dotted names of all settings."""
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from settings_of(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name


def shown_settings(text: str, known: set[str]) -> set[str]:
    """Dotted names in the example, also those that are commented out."""
    shown: set[str] = set()
    section = ""
    for line in text.splitlines():
        bare = line.removeprefix("#").strip()
        if found := re.fullmatch(r"\[([a-z_.]+)\]", bare):
            section = found[1] + "."
        elif found := re.match(r"([a-z_]+) = ", bare):
            name = section + found[1]
            inner = re.findall(r"[{,] ([a-z_]+) = ", bare)
            # An inline table is a section of its own, unless it is one setting whose value is a table.
            shown |= {name} if name in known or not inner else {f"{name}.{key}" for key in inner}
    return shown


def findings() -> Iterator[str]:
    """Everything that is not true."""
    lines = {name: list(code_lines(ROOT / name)) for name in DOCUMENTS}
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for name, own in lines.items():
        for line in own:
            if found := COMMAND.match(line.strip()):
                yield from (f"{name}: {finding}" for finding in check_command(found[1]))
            yield from (f"{name}: there is no `make {t}`" for t in TARGET.findall(line) if t not in targets)
    readme = "\n".join(lines["README.md"])
    yield from (
        f"README.md does not show `rlu {name}`"
        for name in COMMANDS
        if not re.search(rf"\brlu {name}\b", readme)
    )
    example = ROOT / "server" / "rlu.example.toml"
    load_settings(example, {})
    known = set(settings_of(Settings))
    missing = known ^ shown_settings(example.read_text("utf-8"), known)
    yield from (f"server/rlu.example.toml and settings.py disagree about {name}" for name in sorted(missing))


def main() -> int:
    found = list(findings())
    print("\n".join(found) or "the documents agree with the command line")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
