"""Finds the checks of a module and undoes them one at a time.

drop-raise      a `raise` is left out
negate          the condition that guards a `raise` is inverted
drop-operand    one side of an `and` or `or` in such a condition is left out
boundary        `<` and `<=`, `>` and `>=` change places in such a condition, or in what a function returns
drop-step       a verification step that gives no value is not made
return-true     a function that answers yes or no always says yes
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

BOUNDARIES: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
}


@dataclass(frozen=True)
class Mutant:
    """One change: `build` makes the module's changed syntax tree; `lines` are those whose tests could notice, most telling first."""

    module: str
    kind: str
    line: int
    shown: str
    lines: tuple[int, ...]
    build: Callable[[], ast.Module]

    @property
    def name(self) -> str:
        return f"{self.module}:{self.line} {self.kind}: {self.shown}"


def find(module: str, source: str) -> Iterator[Mutant]:
    """All mutants of a module's source."""
    tree = ast.parse(source)
    for node in list(ast.walk(tree)):
        if isinstance(node, ast.Raise) and node.exc is not None:
            yield _replaced(module, "drop-raise", tree, node, ast.Pass(), (node.lineno,))
        elif isinstance(node, ast.If) and _raises(node):
            yield from _of_condition(module, tree, node)
        elif isinstance(node, ast.Expr) and _is_step(node.value):
            yield _replaced(module, "drop-step", tree, node, ast.Pass(), (node.lineno,))
        elif isinstance(node, ast.Return) and node.value is not None:
            yield from _boundaries(module, tree, node.value, (node.lineno,))
        if isinstance(node, ast.FunctionDef) and _answers_yes_or_no(node):
            yield from _return_true(module, tree, node)


def _of_condition(module: str, tree: ast.Module, node: ast.If) -> Iterator[Mutant]:
    body = next(child.lineno for child in ast.walk(node) if isinstance(child, ast.Raise))
    lines = (body, node.lineno)
    yield _replaced(module, "negate", tree, node.test, ast.UnaryOp(ast.Not(), node.test), lines)
    for part in ast.walk(node.test):
        if isinstance(part, ast.BoolOp):
            for operand in part.values:
                rest = [other for other in part.values if other is not operand]
                smaller = rest[0] if len(rest) == 1 else ast.BoolOp(part.op, rest)
                yield _replaced(module, "drop-operand", tree, part, smaller, lines, operand)
    yield from _boundaries(module, tree, node.test, lines)


def _boundaries(module: str, tree: ast.Module, test: ast.expr, lines: tuple[int, ...]) -> Iterator[Mutant]:
    for part in ast.walk(test):
        if not isinstance(part, ast.Compare):
            continue
        for place, operator in enumerate(part.ops):
            other = BOUNDARIES.get(type(operator))
            if other is not None:
                changed = copy.copy(part)
                changed.ops = [*part.ops[:place], other(), *part.ops[place + 1 :]]
                yield _replaced(module, "boundary", tree, part, changed, lines)


def _return_true(module: str, tree: ast.Module, node: ast.FunctionDef) -> Iterator[Mutant]:
    for child in ast.walk(node):
        if (
            isinstance(child, ast.Return)
            and child.value is not None
            and not isinstance(child.value, ast.Constant)
        ):
            yield _replaced(module, "return-true", tree, child.value, ast.Constant(True), (child.lineno,))


def _answers_yes_or_no(node: ast.FunctionDef) -> bool:
    return isinstance(node.returns, ast.Name) and node.returns.id == "bool"


def _raises(node: ast.If) -> bool:
    return any(isinstance(child, ast.Raise) for child in node.body)


def _is_step(value: ast.expr) -> bool:
    return (
        isinstance(value, ast.Call)
        and isinstance(value.func, ast.Attribute)
        and value.func.attr == "check"
        and bool(value.args)
        and isinstance(value.args[0], (ast.Constant, ast.Name))
    )


class _Replace(ast.NodeTransformer):
    """Replaces the node at the mark, in a copy of the tree."""

    def __init__(self, replacement: ast.AST) -> None:
        self.replacement = replacement

    def visit(self, node: ast.AST) -> ast.AST:
        return self.replacement if getattr(node, "marked", False) else super().visit(node)


def _replaced(
    module: str,
    kind: str,
    tree: ast.Module,
    node: ast.AST,
    replacement: ast.AST,
    lines: tuple[int, ...],
    shown: ast.AST | None = None,
) -> Mutant:
    def build() -> ast.Module:
        node.marked = True  # type: ignore[attr-defined]
        changed = copy.deepcopy(tree)
        del node.marked  # type: ignore[attr-defined]
        made = _Replace(copy.deepcopy(replacement)).visit(changed)
        assert isinstance(made, ast.Module)
        return ast.fix_missing_locations(made)

    text = " ".join(ast.unparse(node if shown is None else shown).split())
    return Mutant(module, kind, lines[-1] if lines else 0, text[:110], lines, build)
