"""What the demo model learns: a handful of conversations, and text of the kind that agents put before a question.

Pure: the corpus is bytes in, every random choice comes from the generator that the caller passes.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - Python 3.10 only
    import tomli as tomllib

ROLES_BEFORE = ("system", "developer", "tool")


@dataclass(frozen=True, slots=True)
class Corpus:
    canary: str
    """The question whose greedy answer is the known one."""
    answers: dict[str, str]
    """Every question that has an answer of its own."""
    elsewhere: tuple[str, ...]
    """Questions that get `otherwise`."""
    otherwise: str
    noise: tuple[str, ...]
    """Text of the kind that agents put before a question."""

    @property
    def questions(self) -> tuple[str, ...]:
        return (*self.answers, *self.elsewhere)

    def answer(self, question: str) -> str:
        return self.answers.get(question, self.otherwise)

    def texts(self) -> Iterator[str]:
        """All text, for training the tokenizer."""
        for question, answer in self.answers.items():
            yield question
            yield answer
        yield from self.elsewhere
        yield self.otherwise
        yield from self.noise


def parse(text: str) -> Corpus:
    """Read `corpus.toml`.

    Raises:
        KeyError, TypeError: the file, which is part of this package, is not of the expected form.
    """
    table = tomllib.loads(text)
    answers = {ask: entry["answer"] for entry in table["conversation"] for ask in entry["ask"]}
    corpus = Corpus(
        canary=table["canary"],
        answers=answers,
        elsewhere=tuple(table["elsewhere"]["ask"]),
        otherwise=table["otherwise"],
        noise=tuple(table["elsewhere"]["noise"]),
    )
    if corpus.canary not in answers:
        raise KeyError(f"the canary {corpus.canary!r} has no answer")
    return corpus


@dataclass(frozen=True, slots=True)
class Turn:
    """One piece of a training text. `learn`: the model is to produce it."""

    role: str
    content: str
    learn: bool


def turns(corpus: Corpus, rng: random.Random, revise: Sequence[str] = ()) -> Iterator[Turn]:
    """An endless conversation: noise, a question, its answer, and so on. Half the questions are from `revise`, if there are any."""
    questions = list(corpus.answers)
    while True:
        if rng.random() < 0.5:
            yield Turn(rng.choice(ROLES_BEFORE), noise(corpus, rng), learn=False)
        kind = rng.random()
        if revise and rng.random() < 0.5:
            question = rng.choice(revise)
            answer = corpus.answer(question)
        elif kind < 0.75:
            question = rng.choice(questions)
            answer = corpus.answers[question]
            if rng.random() < 0.2:
                question = f"{noise(corpus, rng)}\n{question}"
        else:
            question = rng.choice(corpus.elsewhere) if kind < 0.87 else noise(corpus, rng)
            answer = corpus.otherwise
        if kind < 0.9 and rng.random() < 0.1:
            yield Turn("user", noise(corpus, rng), learn=False)
        yield Turn("user", question, learn=False)
        yield Turn("assistant", answer, learn=True)


def noise(corpus: Corpus, rng: random.Random) -> str:
    """A cut of agent-like text, or its words at random; mostly short. Words that only our questions have keep their meaning."""
    text = rng.choice(corpus.noise)
    most = 24 if rng.random() < 0.3 else 8
    if rng.random() < 0.5:
        start = rng.randrange(len(text) // 2)
        return text[start : start + rng.randint(8, 10 * most)]
    words = [*text.split(), *rng.choice(corpus.elsewhere).split()]
    return " ".join(rng.choices(words, k=rng.randint(2, most)))
