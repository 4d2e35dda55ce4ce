"""What a model is to whoever has to find room for it: layers, what each keeps for a token or a sequence, and parameters.

Sizes are counts of elements or parameters unless a name says bytes. Nothing here knows of GPUs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

BF16 = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """Multi-head, grouped-query or multi-query attention.

    Attributes:
        window: tokens that a sliding layer keeps; None for full attention.
        chunked: the window is a chunk that starts anew, as in Llama 4, and does not slide.
    """

    heads: int
    kv_heads: int
    head_dim: int
    value_dim: int
    window: int | None = None
    chunked: bool = False

    @property
    def name(self) -> str:
        return "full" if self.window is None else "chunked" if self.chunked else "sliding"


@dataclass(frozen=True, slots=True, kw_only=True)
class Latent:
    """Multi-head latent attention (DeepSeek): one vector a token, the same for all heads, so that tensor parallelism copies it.

    Attributes:
        rank: `kv_lora_rank`.
        rope_dim: `qk_rope_head_dim`.
        score_dim, value_dim: of one head, when keys and values are unfolded.
        index_dim: of the indexer of sparse attention (DeepSeek V3.2); 0 without one.
    """

    heads: int
    rank: int
    rope_dim: int
    score_dim: int
    value_dim: int
    index_dim: int = 0

    @property
    def name(self) -> str:
        return "latent"


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Linear attention or a state-space layer: a state of one size for each sequence, however long.

    Attributes:
        heads: into which tensor parallelism can divide the state.
        convolution: elements of the convolution's state, in the model's type.
        recurrent: elements of the recurrent state.
        recurrent_bytes: of one of them.
    """

    heads: int
    convolution: int
    recurrent: int
    recurrent_bytes: int

    @property
    def name(self) -> str:
        return "state"


Mixer = Attention | Latent | State


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """A mixture of experts; `width` is the intermediate size of one."""

    count: int
    active: int
    width: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One decoder layer.

    Attributes:
        width: intermediate size of the dense part (shared experts included); 0 when there is none.
        mixer_parameters: attention or state.
        dense_parameters: the part of the MLP that every token uses.
        expert_parameters: of all routed experts together.
    """

    mixer: Mixer
    width: int
    mixer_parameters: int
    dense_parameters: int
    experts: Experts | None = None
    expert_parameters: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    """How weights are stored.

    Attributes:
        bits: of one weight, scales and zero points included.
        activations: whether products are computed in 8 bits too; else weights are unfolded to 16.
        experts_only: attention stays in 16 bits (gpt-oss).
        block: weights that share a scale in both directions; a shard must hold whole ones. 0 when there is none.
        stored: whether the checkpoint is in this form; else vLLM would have to make it.
    """

    method: str
    bits: float
    activations: bool
    experts_only: bool = False
    block: int = 0
    stored: bool = True


@dataclass(frozen=True, kw_only=True)
class Model:
    """A decoder, as its `config.json` describes it.

    Attributes:
        max_context: tokens of a sequence at most; 0 when the file does not say.
        weight_bytes: exact, when the files of the weights were there.
        notes: what was assumed or left out, in words.
    """

    architecture: str
    hidden: int
    vocabulary: int
    tied: bool
    max_context: int
    layers: tuple[Layer, ...]
    element_bytes: int = BF16
    quantization: Quantization | None = None
    weight_bytes: int | None = None
    notes: tuple[str, ...] = ()

    @cached_property
    def embedding_parameters(self) -> int:
        """Embeddings and output head, which quantisation leaves alone."""
        return self.hidden * self.vocabulary * (1 if self.tied else 2)

    @cached_property
    def parameters(self) -> int:
        return self.embedding_parameters + sum(
            layer.mixer_parameters + layer.dense_parameters + layer.expert_parameters for layer in self.layers
        )

    @cached_property
    def active_parameters(self) -> int:
        """Parameters that one token is multiplied with: the embedding is looked up, the output head counts once."""
        return self.hidden * self.vocabulary + sum(_active(layer) for layer in self.layers)

    @cached_property
    def experts(self) -> Experts | None:
        """Of the first layer that has any."""
        return next((layer.experts for layer in self.layers if layer.experts is not None), None)

    @property
    def width(self) -> int:
        """The widest dense intermediate."""
        return max((layer.width for layer in self.layers), default=0)


def _active(layer: Layer) -> int:
    found = layer.mixer_parameters + layer.dense_parameters
    if layer.experts is not None:
        found += layer.expert_parameters * layer.experts.active // layer.experts.count
    return found
