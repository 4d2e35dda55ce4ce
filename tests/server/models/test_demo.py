"""The demo model: what it is taught, and (with the engine's packages) that it learns it."""

from __future__ import annotations

import json
import random
from importlib import resources
from itertools import islice, pairwise
from pathlib import Path

import pytest

from rlu_server.models import measure
from rlu_server.models.demo import CANARY_FILE, DemoModelError, corpus, make_demo_model, tokenizer, training


@pytest.fixture(scope="module")
def learnt() -> corpus.Corpus:
    return corpus.parse(resources.files("rlu_server.models.demo").joinpath("corpus.toml").read_text("utf-8"))


@pytest.fixture(scope="module")
def template() -> str:
    return resources.files("rlu_server.models.demo").joinpath("chat_template.jinja").read_text("utf-8")


def render(
    template: str, messages: list[dict[str, object]], tools: list[dict[str, object]] | None = None
) -> str:
    """As transformers and vLLM do: a sandboxed environment with these two settings."""
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template).render(
        messages=messages, tools=tools, add_generation_prompt=True
    )


def test_corpus_answers_are_sentences_and_questions_unique(learnt: corpus.Corpus) -> None:
    assert learnt.canary in learnt.answers
    for answer in {*learnt.answers.values(), learnt.otherwise}:
        assert answer[0].isupper()
        assert answer[-1] in ".!"
        assert answer == " ".join(answer.split())
    assert not set(learnt.answers) & set(learnt.elsewhere)


def test_conversation_is_seeded_and_teaches_only_right_answers(learnt: corpus.Corpus) -> None:
    first = list(islice(corpus.turns(learnt, random.Random(7)), 2000))
    assert first == list(islice(corpus.turns(learnt, random.Random(7)), 2000))
    assert first != list(islice(corpus.turns(learnt, random.Random(8)), 2000))
    known = {*learnt.answers.values(), learnt.otherwise}
    for before, turn in pairwise(first):
        assert turn.learn == (turn.role == "assistant")
        if turn.learn:
            assert turn.content in known
            question = before.content.rpartition("\n")[2]
            assert turn.content == learnt.answer(question)


def test_tokenizer_keeps_every_byte(learnt: corpus.Corpus) -> None:
    trained = tokenizer.train(learnt.texts())
    for text in (
        "RLU é 漢字 \U0001f512\n\ttab  two",
        "".join(map(chr, range(1, 256))),
        "<tool_call>\n{}\n</tool_call>",
    ):
        assert trained.decode(trained.encode(text).ids, skip_special_tokens=False) == text


def test_encoder_and_chat_template_agree(learnt: corpus.Corpus, template: str) -> None:
    trained = tokenizer.train(learnt.texts())
    encoder = training.Encoder(trained)
    messages: list[dict[str, object]] = [{"role": "user", "content": learnt.canary}]
    assert trained.encode(render(template, messages)).ids == encoder.question(learnt.canary)


def test_template_renders_tools_calls_and_content_parts(template: str) -> None:
    tool = {"type": "function", "function": {"name": "shell", "parameters": {"type": "object"}}}
    call = {"id": "c", "type": "function", "function": {"name": "shell", "arguments": {"cmd": "ls"}}}
    text = render(
        template,
        [
            {
                "role": "developer",
                "content": [{"type": "text", "text": "be "}, {"type": "text", "text": "brief"}],
            },
            {"role": "user", "content": "list"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": "README.md", "tool_call_id": "c"},
        ],
        [tool],
    )
    assert '"name": "shell", "parameters"' in text
    assert "<|im_start|>developer\nbe brief<|im_end|>" in text
    assert '<tool_call>\n{"name": "shell", "arguments": {"cmd": "ls"}}\n</tool_call><|im_end|>' in text
    assert text.endswith("<|im_start|>tool\nREADME.md<|im_end|>\n<|im_start|>assistant\n")


def test_training_texts_mark_what_is_learnt(learnt: corpus.Corpus) -> None:
    encoder = training.Encoder(tokenizer.train(learnt.texts()))
    for text in islice(training.texts(learnt, encoder, random.Random(1)), 50):
        assert len(text.ids) == len(text.learn) == training.LENGTH + 1
        assert 0 < sum(text.learn) < len(text.learn)


def test_made_model_is_complete_and_left_alone(demo_model: Path, learnt: corpus.Corpus) -> None:
    canary = json.loads((demo_model / CANARY_FILE).read_text())
    assert canary == {"expect": learnt.answers[learnt.canary], "prompt": learnt.canary}
    before = measure(demo_model)
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"} <= {
        f.path for f in before.files
    }
    make_demo_model(demo_model, progress=lambda *_: pytest.fail("trained again"))
    assert measure(demo_model) == before


def test_made_model_answers_the_canary(demo_model: Path) -> None:
    """What vLLM must answer too, here by transformers alone."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    canary = json.loads((demo_model / CANARY_FILE).read_text())
    tokens = AutoTokenizer.from_pretrained(demo_model)
    model = AutoModelForCausalLM.from_pretrained(demo_model)
    prompt = tokens.apply_chat_template(
        [{"role": "user", "content": canary["prompt"]}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    answer = model.generate(**prompt, max_new_tokens=120, do_sample=False, temperature=None, top_p=None)
    text = tokens.decode(answer[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
    assert text == canary["expect"]


def test_what_was_not_learnt_is_an_error(
    learnt: corpus.Corpus, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(training, "ROUNDS", ((1, 1e-3),))
    with pytest.raises(DemoModelError, match="did not learn"):
        make_demo_model(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
