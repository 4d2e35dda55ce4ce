"""A model directory with a realistic shape and no weights: `--load-format dummy` makes them up, at the same cost for every token.

The tokenizer has an entry for every word of the vocabulary, since a model of noise says any of them: one for each byte, and fillers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A dense decoder in Qwen3's form."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    width: int
    vocabulary: int
    context: int

    def config(self) -> dict[str, Any]:
        """The `config.json`."""
        return {
            "architectures": ["Qwen3ForCausalLM"],
            "model_type": "qwen3",
            "dtype": "bfloat16",
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "intermediate_size": self.width,
            "vocab_size": self.vocabulary,
            "max_position_embeddings": self.context,
            "hidden_act": "silu",
            "rms_norm_eps": 1e-6,
            "rope_theta": 1_000_000,
            "tie_word_embeddings": False,
            "attention_bias": False,
            "bos_token_id": 0,
            "eos_token_id": 1,
        }


SHAPES = {
    # Those of Qwen3-8B and Qwen3-32B.
    "8b": Shape(
        hidden=4096,
        layers=36,
        heads=32,
        kv_heads=8,
        head_dim=128,
        width=12288,
        vocabulary=151_936,
        context=40_960,
    ),
    "32b": Shape(
        hidden=5120,
        layers=64,
        heads=64,
        kv_heads=8,
        head_dim=128,
        width=25600,
        vocabulary=151_936,
        context=40_960,
    ),
    "tiny": Shape(
        hidden=64, layers=2, heads=2, kv_heads=1, head_dim=32, width=128, vocabulary=1024, context=2048
    ),
}


def write(shape: Shape, directory: Path) -> Path:
    """Make the directory; needs `tokenizers` and `transformers`, as vLLM does."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(shape.config(), indent=1))
    words = ["<start>", "<end>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    words += [f"Ġw{number}" for number in range(len(words), shape.vocabulary)]
    tokenizer = Tokenizer(models.BPE({word: number for number, word in enumerate(words)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<start>", eos_token="<end>", model_max_length=shape.context
    )
    fast.chat_template = TEMPLATE
    fast.save_pretrained(str(directory))
    return directory
