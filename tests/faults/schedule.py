"""What is broken, when, and for how long: drawn from a seed. Pure.

Steps of one schedule overlap as they come, and every other one is drawn to the moment at which another begins or is mended: what is hard is
a second fault while the first is being recovered from. A supervisor that is killed comes last, when everything else is mended; one that is
asked to stop is asked in the middle, and started again when everything else is mended: its first start must succeed by design, so it is not
tried with a TPM that is away.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

WINDOW_S = 6.0
"""Steps begin within so many seconds, or soon after another."""
TOGETHER = 0.5
"""Share of steps that are drawn to another."""
SOON_S = (0.0, 0.05, 1.5)
"""At most so long after it; a rotation, a rollout and a drain take their time."""
CLOCK_S = (-600.0, -90.0, 30.0, 90.0)
"""Jumps of the clock, which are taken back. Forward by more than two minutes, and nothing is signed after the return, by design."""
STALLED = ("engine", "gateway", "attestor", "filter", "tpm")
KILLED = (*STALLED, "supervisor")
TOLD = ("engine", "gateway", "attestor")
ROTATED = ("wait", "retire")
OF_WORKERS = ("worker", "hub")
OPEN_FILES = ("gateway", "attestor", "engine")


@dataclass(frozen=True, slots=True)
class Step:
    """One fault.

    Attributes:
        at: seconds after the schedule's start; `lasts`: seconds until it is mended.
        target: which process, where there is a choice.
        amount: descriptors that are left, seconds of delay or of the clock's jump, share of commands that fail, or how many clients.
    """

    kind: str
    at: float
    lasts: float
    target: str = ""
    amount: float = 0.0

    def __str__(self) -> str:
        words = [self.kind, self.target, f"{self.amount:g}" if self.amount else ""]
        return f"{' '.join(filter(None, words))} at {self.at:.2f} s for {self.lasts:.2f} s"


@dataclass(frozen=True, slots=True)
class Schedule:
    """A seed with what it means. `seed` alone makes it again, unless steps were left out."""

    seed: int
    workers: int
    steps: tuple[Step, ...]

    def only(self, kept: Sequence[int]) -> Schedule:
        """With these of its steps, counted from 1."""
        return replace(self, steps=tuple(step for number, step in enumerate(self.steps, 1) if number in kept))

    def smaller(self) -> Iterator[Schedule]:
        """Each schedule that has one step less."""
        for left_out in self.steps:
            yield replace(self, steps=tuple(step for step in self.steps if step is not left_out))


def generate(seed: int, workers: int | None = None) -> Schedule:
    """The schedule of a seed.

    Args:
        workers: processes of the gateway; None: one or two, by the seed.
    """
    dice = random.Random(f"rlu-faults-{seed}")
    drawn = dice.choice((1, 2))
    given = drawn if workers is None else workers
    drawn_to: list[Step] = []
    for _ in range(dice.randint(2, 5)):
        drawn_to.append(_near(dice, _step(dice, given), drawn_to))
    steps = sorted(drawn_to, key=lambda step: step.at)
    others = [step for step in steps if step.target != "supervisor"]
    last = [step for step in steps if step.target == "supervisor"][:1]
    return Schedule(seed, given, (*others, *last))


def _step(dice: random.Random, workers: int) -> Step:
    kind = dice.choice(tuple(KINDS))
    target, amount = KINDS[kind](dice, workers)
    return Step(kind, round(dice.uniform(0, WINDOW_S), 2), round(dice.uniform(0.3, 3.0), 2), target, amount)


def _near(dice: random.Random, step: Step, others: Sequence[Step]) -> Step:
    """The step, or the same one close to another."""
    if not others or dice.random() >= TOGETHER:
        return step
    other = dice.choice(others)
    moment = dice.choice((other.at, other.at + other.lasts))
    return replace(step, at=round(moment + dice.uniform(0, dice.choice(SOON_S)), 2))


def _one(names: Sequence[str], dice: random.Random, workers: int) -> str:
    return dice.choice((*names, *OF_WORKERS) if workers > 1 else tuple(names))


KINDS = {
    "kill": lambda dice, workers: (_one(KILLED, dice, workers), 0.0),
    "stall": lambda dice, workers: (_one(STALLED, dice, workers), 0.0),
    "terminate": lambda dice, workers: (dice.choice((*TOLD, "hub") if workers > 1 else TOLD), 0.0),
    "restart": lambda dice, workers: ("supervisor", 0.0),
    "rotate": lambda dice, workers: (dice.choice(ROTATED), 0.0),
    "switch": lambda dice, workers: ("", 0.0),
    "disk_full": lambda dice, workers: ("", 0.0),
    "disk_stall": lambda dice, workers: ("", 0.0),
    "few_files": lambda dice, workers: (_one(OPEN_FILES, dice, workers), float(dice.randint(0, 6))),
    "engine_bad": lambda dice, workers: ("", 0.0),
    "signer_slow": lambda dice, workers: ("", round(dice.uniform(0.02, 0.4), 3)),
    "signer_fails": lambda dice, workers: ("", round(dice.uniform(0.2, 1.0), 2)),
    "signer_garbles": lambda dice, workers: ("", round(dice.uniform(0.2, 1.0), 2)),
    "signer_hangs_up": lambda dice, workers: ("", round(dice.uniform(0.05, 0.5), 2)),
    "clock": lambda dice, workers: ("", dice.choice(CLOCK_S)),
    "flood_requests": lambda dice, workers: ("", float(dice.randint(30, 120))),
    "flood_leaving": lambda dice, workers: ("", float(dice.randint(30, 120))),
    "flood_tls": lambda dice, workers: ("", float(dice.randint(30, 150))),
}
"""Every kind of fault, with what draws its target and amount."""
