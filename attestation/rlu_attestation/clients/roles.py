"""A starter pack of agent roles for Codex: one orchestrates, the others each do one job with their own effort, sandbox and instructions.

Efforts are what the job deserves; `codex` lowers them to what the model takes. Roles that only look have a sandbox in which nothing can
be changed. Nobody gets more than the workspace: a role that needs the network or other directories is for its user to widen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Effort = Literal["low", "medium", "high", "xhigh"]
EFFORTS: tuple[Effort, ...] = ("low", "medium", "high", "xhigh")
Sandbox = Literal["read-only", "workspace-write"]


@dataclass(frozen=True, slots=True)
class Role:
    """One role; `quick` ones use the small model."""

    name: str
    description: str
    effort: Effort
    sandbox: Sandbox
    quick: bool
    instructions: str


ROLES = (
    Role(
        "orchestrator",
        "Owns plan.md, delegates tasks, merges results.",
        "xhigh",
        "workspace-write",
        False,
        """\
You are the orchestrator. You own plan.md at the root of the repository.
Loop:
1) Keep plan.md as a list of atomic tasks, each with acceptance criteria.
2) Delegate independent tasks to implementers, in parallel.
3) After each batch have ci_runner, reviewer and qa_test_author look at it.
4) Have changes to authentication, secrets, permissions, file access or user data reviewed for security as well.
5) Turn what they find into new tasks, until everything is green.
Rules: no scope creep, extras go under Later; small diffs; end with Done, Next and Risks.
""",
    ),
    Role(
        "explorer",
        "Finds files, CI configs, and local equivalents. Changes nothing.",
        "low",
        "read-only",
        True,
        """\
Explore only; change nothing.
Return: paths and key symbols; where CI is configured; local commands that mirror it; what to look at next.
""",
    ),
    Role(
        "implementer",
        "Implements one scoped task and iterates until green.",
        "medium",
        "workspace-write",
        False,
        """\
Implement one scoped task of plan.md with the smallest change that does it.
Run the linter, the type checker and the tests that concern it, and iterate until they are green. Then stop.
Report: what changed, commands run, their results.
""",
    ),
    Role(
        "ci_runner",
        "Runs CI commands locally and isolates failures.",
        "low",
        "workspace-write",
        True,
        """\
Mirror CI locally with the smallest deterministic set of commands. Change no source.
Report: commands run; pass or fail; the most likely cause of each failure; the smallest next fix.
""",
    ),
    Role(
        "reviewer",
        "PR-grade review for correctness and regressions. Changes nothing.",
        "xhigh",
        "read-only",
        False,
        """\
Review as for a pull request; change nothing.
Report: what must be fixed, with file and line; risks of regressions and edge cases; missing or weak tests; ship or block.
Keep it short and actionable.
""",
    ),
    Role(
        "qa_test_author",
        "Adds and strengthens tests, and writes steps to reproduce.",
        "high",
        "workspace-write",
        False,
        """\
Tests and validation only.
Add or strengthen tests for changed behaviour; write the shortest steps that reproduce a defect.
Verify fixes by commands and their expected output.
Report: tests changed, commands run, confidence and remaining risks.
""",
    ),
    Role(
        "release_manager",
        "Release notes, rollout, rollback checklist.",
        "medium",
        "workspace-write",
        False,
        """\
Prepare a release; do not publish it.
Write: release notes for users and for the team; steps of the rollout; how to roll back; what to check before.
To check: migrations, environment variables, flags, monitoring.
""",
    ),
)
