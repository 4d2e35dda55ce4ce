"""Holds the documents against the command line: what they show must exist, and what exists must be shown.

    python scripts/check_help.py

Every `rlu …` that a document shows must name a command, subcommands and options that the real command has; in a code block it must be
complete too. Every command of `rlu` must appear in README.md; every `make` target that a document names must be in the Makefile; every
value of the chart that a document shows, in `helm … --set`, in a YAML block or by its name, must be in the chart's schema, and the chart
and values files it names must be there; every setting must be in server/rlu.example.toml. Exit codes: 0 all true, 1 something is not,
each finding on a line of its own.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer
import yaml

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
    "helm/DESIGN.md",
    "helm/rlu/README.md",
    *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
)
USAGE: type[Exception] = typer.BadParameter.__mro__[1]
"""What the parser raises. Typer brings its own Click, which has no public name."""
EVERYWHERE = {"--help", "--install-completion", "--show-completion"}
SHELL = re.compile(r"\s(?:&&|\|\||\||;)\s")
"""What stands between two commands of one line."""
COMMAND = re.compile(r"^(?:\$ )?(?:sudo )?(rlu [a-z-]+(?: .*)?)$")
IN_A_POD = re.compile(r"^(?:\$ )?kubectl .*\bexec .* -- (rlu [a-z-]+(?: .*)?)$")
HELM = re.compile(r"^(?:\$ )?(helm .*)$")
TARGET = re.compile(r"\bmake ([a-z-]+)\b")
CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
YAML = re.compile(r"```yaml\n(.*?)```", re.DOTALL)
VALUE = re.compile(r"[a-z][A-Za-z]*(?:\.[a-z][A-Za-z]*)+")
HELM_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "install": ("-n", "-f", "--set", "--set-file", "--wait", "--timeout"),
    "upgrade": ("-n", "-f", "--set", "--set-file", "--wait", "--timeout"),
    "rollback": ("-n", "--wait", "--timeout"),
    "test": ("-n", "--logs"),
    "history": ("-n",),
    "get": ("-n", "--revision", "-o"),
    "package": ("-d",),
    "uninstall": ("-n",),
}
"""What the documents may use of Helm 3, whose own command line is not at hand here."""


def code_lines(text: str) -> Iterator[tuple[str, bool]]:
    """Lines of code in a document, continuation lines joined, and whether they stand in a code block."""
    for block in CODE.findall(text):
        fenced = block.startswith("```")
        for line in re.sub(r"\\\n\s*", " ", block).strip("`").splitlines():
            yield line.strip(), fenced


def check_command(line: str, *, complete: bool) -> Iterator[str]:
    """Findings about one shown command; `complete`: it is there to be run, not only named."""
    words = shlex.split(re.split(r"\s[>]\s", line)[0], comments=True)[1:]
    if not words or words[0].startswith("-"):
        return
    if words[0] not in COMMANDS:
        yield f"`{line}`: there is no command {words[0]}"
        return
    command: Any = load(words[0])
    name, rest = words[0], words[1:]
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        if rest[0] not in command.commands:
            yield f"`{line}`: {name} has no command {rest[0]}"
            return
        command, name, rest = command.commands[rest[0]], f"{name} {rest[0]}", rest[1:]
    known = {
        option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
    } | EVERYWHERE
    given = rest[: rest.index("--")] if "--" in rest else rest
    unknown = [w for w in given if re.match(r"--?[a-zA-Z]", w) and w.split("=")[0] not in known]
    yield from (f"`{line}`: {name} has no option {word}" for word in unknown)
    if complete and not unknown:
        yield from (f"`{line}`: {name} {finding}" for finding in missing(command, name, rest))


def missing(command: Any, name: str, words: list[str]) -> Iterator[str]:
    """What the command itself would refuse in these words: options without a value, what is required, one word too many."""
    if hasattr(command, "commands"):
        yield "is no command of its own"
        return
    context = command.context_class(command, info_name=name)
    try:
        options, rest, _ = command.make_parser(context).parse_args(list(words))
    except USAGE as error:
        yield f"refuses: {error}"
        return
    if rest:
        yield f"takes no word {rest[0]!r}"
    for parameter in command.params:
        if parameter.required and not isinstance(options.get(parameter.name), (str, list, tuple)):
            yield f"needs {parameter.opts[0]}"


def in_schema(schema: Mapping[str, Any], path: list[str]) -> bool:
    """Whether a value of the chart has this place."""
    if not path:
        return True
    inner = schema.get("properties", {}).get(path[0])
    if inner is not None:
        return in_schema(inner, path[1:])
    return bool(schema.get("additionalProperties", not schema.get("properties")))


def paths(values: object, before: tuple[str, ...] = ()) -> Iterator[list[str]]:
    """The places of all leaves."""
    if isinstance(values, dict) and values:
        for key, inner in values.items():
            yield from paths(inner, (*before, str(key)))
    else:
        yield list(before)


def check_helm(line: str, schema: Mapping[str, Any]) -> Iterator[str]:
    """Findings about one shown command of Helm's: subcommand, options, values, and files of ours."""
    words = shlex.split(line, comments=True)[1:]
    action = next((word for word in words if word in HELM_OPTIONS), None)
    if action is None:
        yield f"`{line}`: not among what is known of Helm"
        return
    known = HELM_OPTIONS[action]
    for before, word in zip(["", *words], words, strict=False):
        if word.startswith("-") and word not in known:
            yield f"`{line}`: helm {action} has no option {word}"
        if before in ("--set", "--set-file"):
            for one in re.split(r",(?=[a-z])", word):
                path = re.sub(r"\[\d+\]", "", one.partition("=")[0]).split(".")
                if not in_schema(schema, path):
                    yield f"`{line}`: the chart has no value {'.'.join(path)}"
        if re.match(r"(\./)?helm/", word) and not (ROOT / word).exists():
            yield f"`{line}`: there is no {word}"


def check_values(text: str, lines: list[tuple[str, bool]], schema: Mapping[str, Any]) -> Iterator[str]:
    """Findings about values that a document shows: in YAML blocks, and by name where the name cannot be anything else."""
    for block in YAML.findall(text):
        shown = yaml.safe_load(block)
        if "apiVersion" not in shown:
            for path in paths(shown):
                if not in_schema(schema, path):
                    yield f"the chart has no value {'.'.join(path)}"
    for line, fenced in lines:
        # Codes and settings have no capitals; a name with one whose first word the chart has is a value of the chart.
        if not fenced and VALUE.fullmatch(line) and re.search("[A-Z]", line):
            path = line.split(".")
            if path[0] in schema["properties"] and not in_schema(schema, path):
                yield f"the chart has no value {line}"


def check_document(text: str, targets: set[str], schema: Mapping[str, Any]) -> Iterator[str]:
    """Findings about one document."""
    lines = list(code_lines(text))
    for line, fenced in lines:
        for part in SHELL.split(line):
            if found := COMMAND.match(part) or IN_A_POD.match(part):
                yield from check_command(found[1], complete=fenced)
            if fenced and (found := HELM.match(part)):
                yield from check_helm(found[1], schema)
        yield from (
            f"there is no `make {target}`" for target in TARGET.findall(line) if target not in targets
        )
    yield from check_values(text, lines, schema)


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
    texts = {name: (ROOT / name).read_text("utf-8") for name in DOCUMENTS}
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    schema = json.loads((ROOT / "helm/rlu/values.schema.json").read_text("utf-8"))
    for name, text in texts.items():
        yield from (f"{name}: {finding}" for finding in check_document(text, targets, schema))
    readme = "\n".join(line for line, _ in code_lines(texts["README.md"]))
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
