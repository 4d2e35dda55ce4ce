"""Training of the demo model: a two-layer Qwen3 that learns the corpus by heart.

Attention is windowed in every layer, so what the model sees of an agent's long prompt is what it saw in training: the last few hundred
tokens. That, and noise before and between the questions, is why it answers sensibly after 8,000 tokens of instructions.

Torch is imported inside the functions: importing this module costs nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlu_server.models.demo import corpus as corpora
from rlu_server.models.demo.corpus import Corpus, Turn
from rlu_server.models.demo.tokenizer import END, START

CONTEXT = 65536
WINDOW = 192
LAYERS, HIDDEN, HEAD = 2, 128, 64
BATCH, LENGTH = 8, 256
ROUND, ROUNDS = 300, 3
"""Optimiser steps in one round, and how many rounds are tried before giving up."""
WARM_UP, PEAK_RATE, LAST_RATE = 10, 4e-3, 0.05
SHORTENED, SHORT = 0.7, 8
"""This share of the answers is cut after so many tokens: telling the questions apart is harder than reciting."""

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


def texts(corpus: Corpus, encoder: Encoder, rng: random.Random) -> Iterator[Text]:
    """Endless training texts of LENGTH + 1 tokens, each with several questions."""
    conversation = corpora.turns(corpus, rng)
    while True:
        ids: list[int] = []
        learn: list[bool] = []
        while len(ids) <= LENGTH:
            turn = next(conversation)
            piece = encoder.turn(turn, SHORT if turn.learn and rng.random() < SHORTENED else None)
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
    """A model that gives every answer of the corpus; the same seed and versions train the same way.

    Raises:
        DemoModelError: some answers were still wrong after all rounds.
    """
    import torch

    torch.manual_seed(seed)
    encoder = Encoder(tokenizer)
    model = new_model(tokenizer.get_vocab_size(), tokenizer.token_to_id(END), 0)
    streams = [texts(corpus, encoder, _generator(seed, n)) for n in range(BATCH)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, betas=(0.9, 0.95), weight_decay=0.01)
    for attempt in range(ROUNDS):
        for step in range(ROUND):
            rate = PEAK_RATE * min((step + 1) / WARM_UP, max(LAST_RATE, min(1.0, (1 - step / ROUND) / 0.6)))
            for group in optimizer.param_groups:
                group["lr"] = rate
            batch = [next(stream) for stream in streams]
            loss = _loss(model, batch)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            if progress is not None:
                progress(attempt * ROUND + step + 1, (attempt + 1) * ROUND, float(loss.detach()))
        wrong = unlearnt(model, corpus, encoder, _generator(seed, BATCH + attempt))
        if not wrong:
            return model
    raise DemoModelError(
        f"the demo model did not learn {wrong[0]!r} and {len(wrong) - 1} more; try another --seed"
    )


def _generator(seed: int, stream: int) -> random.Random:
    return random.Random(f"{seed}/{stream}")  # noqa: S311 - training data, not secrets


def _loss(model: Any, batch: list[Text]) -> Any:
    import torch

    ids = torch.tensor([text.ids for text in batch])
    learn = torch.tensor([text.learn for text in batch])[:, 1:]
    hidden = model.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
    return torch.nn.functional.cross_entropy(model.lm_head(hidden[learn]), ids[:, 1:][learn])


def unlearnt(model: Any, corpus: Corpus, encoder: Encoder, rng: random.Random) -> list[str]:
    """Questions whose greedy answer is not the one of the corpus, alone or after noise."""
    import torch

    words = [word for text in corpus.texts() for word in text.split()]
    questions = [*corpus.answers, *corpus.elsewhere]
    wrong: list[str] = []
    for question in questions:
        noise = encoder.turn(Turn("system", corpora.noise(corpus, words, rng), learn=False)).ids
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
