"""The demo model: about a megabyte, made in under a minute on the newcomer's machine, so that `make run` shows sentences instead of noise.

It is a real model (Qwen3 architecture, safetensors, chat template with tools, 64k positions) that vLLM serves like any other; it has
learnt `corpus.toml` by heart and says of everything else that it cannot do it. Nothing is downloaded.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from importlib import resources
from pathlib import Path

from rlu_server.models.demo import corpus, tokenizer, training
from rlu_server.models.demo.training import DemoModelError, Progress

__all__ = ["CANARY_FILE", "DemoModelError", "make_demo_model"]

CANARY_FILE = "rlu-canary.json"
"""In the model directory: `{"expect":…,"prompt":…}`, a user message and its full answer at temperature 0."""


def make_demo_model(directory: Path, seed: int = 0, progress: Progress | None = None) -> None:
    """Train and save the demo model; `directory` appears only when it is complete.

    A `directory` that exists is left as it is: making the model is idempotent.

    Args:
        directory: where the model is to be.
        seed: of every random choice.
        progress: called after each training step.

    Raises:
        DemoModelError: training failed, or torch and transformers are not installed.
        OSError: the directory cannot be written.
    """
    if (directory / CANARY_FILE).is_file():
        return
    try:
        import torch  # noqa: F401 - fail early, with the remedy
        import transformers  # noqa: F401
    except ImportError as error:
        raise DemoModelError(
            f"making the demo model needs the engine's packages ({error}); run scripts/setup.sh"
        ) from error
    files = resources.files(__package__)
    learnt = corpus.parse(files.joinpath("corpus.toml").read_text("utf-8"))
    tokens = tokenizer.train(learnt.texts())
    model = training.train(learnt, tokens, seed, progress)
    directory.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        _save(unfinished, model, tokens, files.joinpath("chat_template.jinja").read_text("utf-8"), learnt)
        unfinished.chmod(0o755)
        os.replace(unfinished, directory)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _save(directory: Path, model: object, tokens: object, template: str, learnt: corpus.Corpus) -> None:
    training.save(model, directory)
    tokenizer.save(tokens, directory, template, training.CONTEXT)
    known = {"expect": learnt.answers[learnt.canary], "prompt": learnt.canary}
    (directory / CANARY_FILE).write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", "utf-8")
    for file in directory.iterdir():
        file.chmod(0o644)  # the engine runs under a user of its own
