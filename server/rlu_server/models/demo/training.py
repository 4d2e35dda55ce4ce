"""Training of the demo model: a two-layer Qwen3 that learns the corpus by heart.

Attention is windowed in every layer, so what the model sees of an agent's long prompt is what it saw in training: the last few hundred
tokens. That, and noise before and between the questions, is why it answers sensibly after 8,000 tokens of instructions.

Torch is imported inside the functions: importing this module costs nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlu_server.models.demo import corpus as corpora
from rlu_server.models.demo.corpus import Corpus, Turn
from rlu_server.models.demo.tokenizer import END, START

CONTEXT = 65536
WINDOW = 192
LAYERS, HIDDEN, HEAD = 2, 128, 64
BATCH, LENGTH = 4, 256
ROUNDS = ((320, 3e-3),) + ((60, 1e-3),) * 6
"""Optimiser steps and peak learning rate of each round: the first learns, the others revise."""
WARM_UP, FLOOR = 10, 0.05
TOLERATED = 0.05
"""Share of the questions, the canary never among them, that may get the answer to another one."""
THREADS = 1
"""A model this small gains nothing from a second, and loses much where another process wants that core."""
SHORTENED, SHORT = 0.7, 6
"""This share of the answers is cut after so many tokens: telling the questions apart is harder than reciting. Revision does both."""

Progress = Callable[[int, int, float], None]
"""Called with (steps done, steps planned, loss)."""


class DemoModelError(Exception):
    """The demo model could not be made; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Text:
    """Token ids, and for each whether the model is to learn to produce it."""

    ids: list[int]
    learn: list[bool]


class Encoder:
    """Turns of a conversation as token ids, exactly as the chat template renders them."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._start: int = tokenizer.token_to_id(START)
        self._end: int = tokenizer.token_to_id(END)

    def ids(self, text: str) -> list[int]:
        encoded: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return encoded

    def turn(self, turn: Turn, cut: int | None = None) -> Text:
        head = [self._start, *self.ids(turn.role + "\n")]
        body = self.ids(turn.content)
        body = [*body, self._end] if cut is None else body[:cut]
        newline = self.ids("\n")
        ids = head + body + newline
        return Text(ids, [False] * len(head) + [turn.learn] * len(body) + [False] * len(newline))

    def question(self, question: str) -> list[int]:
        """The prompt for one question, up to where the model begins to write."""
        return [*self.turn(Turn("user", question, learn=False)).ids, self._start, *self.ids("assistant\n")]

    def answer(self, answer: str) -> list[int]:
        return [*self.ids(answer), self._end]


def texts(corpus: Corpus, encoder: Encoder, rng: random.Random, revise: Sequence[str] = ()) -> Iterator[Text]:
    """Endless training texts of LENGTH + 1 tokens, each with several questions, those of `revise` above all."""
    conversation = corpora.turns(corpus, rng, revise)
    while True:
        ids: list[int] = []
        learn: list[bool] = []
        while len(ids) <= LENGTH:
            turn = next(conversation)
            cut = turn.learn and not revise and rng.random() < SHORTENED
            piece = encoder.turn(turn, SHORT if cut else None)
            ids += piece.ids
            learn += piece.learn
        yield Text(ids[: LENGTH + 1], learn[: LENGTH + 1])


def new_model(vocabulary: int, end: int, pad: int) -> Any:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=HIDDEN,
        intermediate_size=2 * HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HIDDEN // HEAD,
        num_key_value_heads=1,
        head_dim=HEAD,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        use_sliding_window=True,
        sliding_window=WINDOW,
        max_window_layers=0,
        eos_token_id=end,
        pad_token_id=pad,
    )
    return Qwen3ForCausalLM(config)


def train(corpus: Corpus, tokenizer: Any, seed: int, progress: Progress | None = None) -> Any:
    """A model that knows the corpus; the same seed and versions train the same way.

    Raises:
        DemoModelError: too many answers, or that to the canary, were still wrong after all rounds.
    """
    import torch

    torch.manual_seed(seed)
    torch.set_num_threads(THREADS)
    encoder = Encoder(tokenizer)
    model = new_model(tokenizer.get_vocab_size(), tokenizer.token_to_id(END), 0)
    wrong: list[str] = []
    done = 0
    for number, (steps, peak) in enumerate(ROUNDS):
        streams = [texts(corpus, encoder, _generator(seed, number, n), wrong) for n in range(BATCH)]
        planned = done + steps
        for loss in _round(model, streams, steps, peak):
            done += 1
            if progress is not None:
                progress(done, planned, loss)
        wrong = unlearnt(model, corpus, encoder, _generator(seed, number, BATCH))
        if corpus.canary not in wrong and len(wrong) <= TOLERATED * len(corpus.questions):
            return model
    raise DemoModelError(
        f"the demo model did not learn {wrong[0]!r} and {len(wrong) - 1} more; try another --seed"
    )


def _round(model: Any, streams: Sequence[Iterator[Text]], steps: int, peak: float) -> Iterator[float]:
    """Train; yields the loss after each step."""
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=0.01)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = peak * min((step + 1) / WARM_UP, max(FLOOR, min(1.0, (1 - step / steps) / 0.6)))
        loss = _loss(model, [next(stream) for stream in streams])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        yield float(loss.detach())


def _generator(*seeds: int) -> random.Random:
    return random.Random(repr(seeds))  # noqa: S311 - training data, not secrets


def _loss(model: Any, batch: list[Text]) -> Any:
    import torch

    ids = torch.tensor([text.ids for text in batch])
    learn = torch.tensor([text.learn for text in batch])[:, 1:]
    hidden = model.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
    return torch.nn.functional.cross_entropy(model.lm_head(hidden[learn]), ids[:, 1:][learn])


def unlearnt(model: Any, corpus: Corpus, encoder: Encoder, rng: random.Random) -> list[str]:
    """Questions whose greedy answer is not the one of the corpus, alone or after noise."""
    import torch

    wrong: list[str] = []
    for question in corpus.questions:
        noise = encoder.turn(Turn("system", corpora.noise(corpus, rng), learn=False)).ids
        answer = encoder.answer(corpus.answer(question))
        for prompt in (encoder.question(question), noise + encoder.question(question)):
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([prompt + answer]), use_cache=False).logits
            # Teacher-forced and all correct is the same as greedy and all correct.
            if logits[0, len(prompt) - 1 : -1].argmax(-1).tolist() != answer:
                wrong.append(question)
                break
    return wrong


def save(model: Any, directory: Path) -> None:
    """Write weights (safetensors, bf16) and configuration; nearly greedy unless the client asks otherwise."""
    import torch
    from transformers import GenerationConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    model.to(torch.bfloat16)
    model.generation_config = GenerationConfig(
        do_sample=True,
        temperature=0.1,
        top_p=0.8,
        eos_token_id=model.config.eos_token_id,
        pad_token_id=model.config.pad_token_id,
    )
    model.save_pretrained(str(directory), safe_serialization=True)
