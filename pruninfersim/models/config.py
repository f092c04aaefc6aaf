"""Model configurations: the sizes of a decoder-only transformer, and what follows from them."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from pruninfersim._util.arrays import TOO_LARGE
from pruninfersim._util.doors import doors
from pruninfersim._util.records import Record, modified_from
from pruninfersim.errors import shown, unknown_name
from pruninfersim.hardware.precision import PRECISIONS
from pruninfersim.models.architectures import ARCHITECTURES, Row
from pruninfersim.models.architectures.layered import Layer, layered_rows
from pruninfersim.models.hf.keys import MOST_LAYERS
from pruninfersim.models.hf.quantisation import Storage
from pruninfersim.models.hf.reading import read_config
from pruninfersim.models.stored import as_stored
from pruninfersim.workload import Workload

__all__ = ["ModelConfig"]


def _positive_whole(value: Any) -> int:
    """Return `value` as int; whole floats and numpy integers pass, bools and text do not."""
    try:
        number = math.nan if isinstance(value, bool | str | bytes) else float(value)
    except Exception:  # not a number, an array, or an object that may do anything when it is asked for one
        number = math.nan
    if not (math.isfinite(number) and number == math.floor(number) and 0 < number < TOO_LARGE):
        raise ValueError(
            "must be a positive whole number" if not number >= TOO_LARGE else f"must be below {TOO_LARGE:g}"
        )
    return int(value)


Size = Annotated[int, BeforeValidator(_positive_whole)]


@doors
class ModelConfig(Record):
    """The sizes of a decoder-only language model.

    A dense transformer with gated MLP whose layers are alike needs the plain sizes only. Whatever else a model is made
    of (experts, latent attention, states in place of a cache, layers that pruning made different) stands in `layers`,
    one description each; the plain sizes are then those of its first attention and widest MLP.

    Attributes
    ----------
    name : str
        Registry name, for instance ``"llama-3.1-8b"``.
    family : str
        Hugging Face ``model_type``, for instance llama, qwen3_moe, deepseek_v3.
    hidden_size, intermediate_size, num_layers, vocab_size : int
        Residual width D, MLP width I, layers L, vocabulary V.
    num_heads, num_kv_heads, head_dim : int
        Query heads, key-value heads (a divisor of the former), width of one head.
    max_position : int
        Longest context [tokens].
    tie_embeddings : bool
        Whether the LM head shares its weights with the embedding.
    qkv_bias, o_bias, mlp_bias : bool
        Which projections have a bias.
    qk_norm : {"none", "head", "full"}
        RMSNorm of queries and keys: none, one of head_dim shared by all heads, or over the whole projection width.
    norm_placement : {"pre", "post", "both"}
        RMSNorm before each sub-layer, after it (OLMo 2), or both (Gemma 2 and 3).
    sliding_window : int or None
        Keys that a windowed layer attends to at most [tokens].
    window_pattern : tuple of bool
        Which layers are windowed, repeated over the layers: ``(True,)`` is all, ``(True, False)`` every other one,
        ``()`` none.
    dtype : str
        Precision of weights and activations.
    reference : str
        Where the figures come from.
    layers : tuple of Layer
        What each layer is made of, where plain sizes do not tell; see `pruninfersim.models.architectures.layered`.
    position_embeddings : int
        Rows of a learnt table of positions.
    final_norm_bias : bool
        Whether the last norm has a bias.
    notes : tuple of str
        What a reader of an estimate has to know about the configuration.
    storage : Storage
        At its dtype: scales, layers left in 16 bit, the KV cache of a checkpoint.

    Raises
    ------
    InvalidInputError
        If a field is missing, unknown or not allowed.

    >>> from pruninfersim import models
    >>> models.get("llama-3.1-8b").parameters
    8030261248
    """

    name: str = Field(min_length=1)
    family: str = Field(min_length=1)
    hidden_size: Size
    intermediate_size: Size
    num_layers: Size
    num_heads: Size
    num_kv_heads: Size
    head_dim: Size
    vocab_size: Size
    max_position: Size
    tie_embeddings: bool = False
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    qk_norm: Literal["none", "head", "full"] = "none"
    norm_placement: Literal["pre", "post", "both"] = "pre"
    sliding_window: Size | None = None
    window_pattern: tuple[bool, ...] = ()
    dtype: str = "bf16"
    reference: str = Field(min_length=1)
    layers: tuple[Layer, ...] = ()
    position_embeddings: int = Field(default=0, ge=0)
    final_norm_bias: bool = False
    notes: tuple[str, ...] = ()
    storage: Storage = Storage()

    @field_validator("dtype")
    @classmethod
    def _known_dtype(cls, dtype: str) -> str:
        if dtype not in PRECISIONS:
            raise ValueError(str(unknown_name("dtype", dtype, PRECISIONS)))
        return dtype

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads must be a multiple of num_kv_heads; got {self.num_heads} heads and {self.num_kv_heads} "
                "key-value heads"
            )
        if any(self.window_pattern) != (self.sliding_window is not None):
            raise ValueError(
                "sliding_window and window_pattern belong together: give both, or neither; "
                f"got {shown(self.sliding_window)} and {shown(self.window_pattern)}"
            )
        if self.num_layers > MOST_LAYERS:
            raise ValueError(f"num_layers must be at most {MOST_LAYERS}; got {self.num_layers}")
        if self.layers and len(self.layers) != self.num_layers:
            raise ValueError(f"num_layers is {self.num_layers}, but there are {len(self.layers)} layers")
        return self

    # --- sizes --------------------------------------------------------------------------------------------------

    @property
    def q_size(self) -> int:
        """Width of the query projection."""
        return self.num_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """Width of the key projection, and of the value projection."""
        return self.num_kv_heads * self.head_dim

    @property
    def group_size(self) -> int:
        """Query heads per key-value head."""
        return self.num_heads // self.num_kv_heads

    @property
    def norms_per_layer(self) -> int:
        """RMSNorms over the residual width per layer."""
        return 4 if self.norm_placement == "both" else 2

    @property
    def window_layers(self) -> tuple[bool, ...]:
        """Whether each layer is windowed, one entry per layer.

        >>> from pruninfersim import models
        >>> models.get("gemma-3-1b").window_layers[:7]
        (True, True, True, True, True, False, True)
        """
        pattern = self.window_pattern or (False,)
        return tuple(pattern[layer % len(pattern)] for layer in range(self.num_layers))

    # --- parameter counts ---------------------------------------------------------------------------------------

    @property
    def layer_gemm_parameters(self) -> int:
        """Weights of the GEMMs of one layer, without biases; the mean over layers where they differ."""
        if self.layers:
            return sum(layer.weights(self.hidden_size) for layer in self.layers) // self.num_layers
        attention = self.hidden_size * (2 * self.q_size + 2 * self.kv_size)
        return attention + 3 * self.hidden_size * self.intermediate_size

    @property
    def layer_parameters(self) -> int:
        """Parameters of one layer: weights, biases and norms; the mean over layers where they differ."""
        if self.layers:
            return sum(layer.parameters(self.hidden_size) for layer in self.layers) // self.num_layers
        biases = self.qkv_bias * (self.q_size + 2 * self.kv_size) + self.o_bias * self.hidden_size
        biases += self.mlp_bias * (2 * self.intermediate_size + self.hidden_size)
        qk_norms = {"none": 0, "head": 2 * self.head_dim, "full": self.q_size + self.kv_size}[self.qk_norm]
        return self.layer_gemm_parameters + biases + qk_norms + self.norms_per_layer * self.hidden_size

    @property
    def parameters(self) -> int:
        """All parameters; a head tied to the embedding counts once.

        >>> from pruninfersim import models
        >>> models.get("qwen2.5-0.5b").parameters
        494032768
        """
        if self.layers:
            return self._outside + sum(layer.parameters(self.hidden_size) for layer in self.layers)
        return self._outside + self.num_layers * self.layer_parameters

    @property
    def active_parameters(self) -> int:
        """Parameters that one token uses: of a mixture, its own experts and all that tokens share; both embeddings."""
        if self.layers:
            return self._outside + sum(layer.active(self.hidden_size) for layer in self.layers)
        return self.parameters

    @property
    def _outside(self) -> int:
        """Parameters outside of the layers."""
        rows = self.vocab_size * (1 if self.tie_embeddings else 2) + self.position_embeddings
        return (rows + 1 + self.final_norm_bias) * self.hidden_size

    @property
    def gemm_parameters(self) -> int:
        """Weights that a decode step multiplies with: the layers' GEMMs and the LM head, without the embedding."""
        if self.layers:
            layers = sum(layer.weights(self.hidden_size) for layer in self.layers)
            return layers + self.vocab_size * self.hidden_size
        return self.num_layers * self.layer_gemm_parameters + self.vocab_size * self.hidden_size

    # --- ops --------------------------------------------------------------------------------------------------------

    def rows(self, workload: Workload, dtype: str) -> list[Row]:
        """Return the rows of a trace: one per distinct op of a forward pass, layers folded.

        An architecture of your own is a class derived from this one that makes its own rows (see `architectures.Rows`).

        Parameters
        ----------
        workload : Workload
        dtype : str
            Precision of the linear layers.

        Raises
        ------
        UnknownNameError
            If there is no architecture for the family.

        >>> from pruninfersim import Workload, models
        >>> [row["name"] for row in models.get("llama-3.1-8b").rows(Workload.decode(), "bf16")][:3]
        ['embedding', 'attn_norm', 'q']
        """
        if not self.layers and self.family not in ARCHITECTURES:
            raise unknown_name("model family", self.family, ARCHITECTURES)
        made = layered_rows if self.layers else ARCHITECTURES[self.family]
        rows = made(self, workload, dtype)
        return as_stored(rows, self) if dtype == self.storage.dtype else rows

    # --- copies and files ---------------------------------------------------------------------------------------

    def clone(self, name: str, **changes: Any) -> Self:
        """Return a renamed copy with some fields changed; its reference says what it was modified from.

        Raises
        ------
        InvalidInputError
            If a field is unknown or a value is not allowed.

        >>> from pruninfersim import models
        >>> models.get("llama-3.1-8b").clone("llama-3.1-4b", num_layers=16).reference[:40]
        'modified from llama-3.1-8b (num_layers);'
        """
        fields = {key: getattr(self, key) for key in type(self).model_fields} | changes
        reference = modified_from(self.name, changes, str(fields["reference"]))
        return type(self)(**{**fields, "name": name, "reference": reference})

    @classmethod
    def from_hf(cls, config: Any, name: str | None = None) -> ModelConfig:
        """Return the configuration in a Hugging Face ``config.json``.

        Parameters
        ----------
        config : str, Path, dict, or object with ``to_dict()``
            Path of the file, or of the directory that holds it, or its content (a configuration of `transformers`).
        name : str, optional
            Name of the model; otherwise ``_name_or_path``, the file's stem or its directory's name.

        Raises
        ------
        FileFormatError
            If the file cannot be read, is not JSON, lacks a key, holds a wrong value, or a key that contradicts what
            would be built.
        InvalidInputError
            The same for a dict.
        UnknownNameError
            If the ``model_type`` is not supported.

        >>> small = {"model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        ...          "num_attention_heads": 4, "vocab_size": 100}
        >>> ModelConfig.from_hf(small, name="tiny").head_dim
        16
        """
        return read_config(config, name, ModelConfig)

    def __repr__(self) -> str:
        return (
            f"<ModelConfig {self.name}: {self.family}, {self.parameters / 1e9:.4g} B parameters, {self.num_layers} "
            f"layers of width {self.hidden_size}, {self.num_heads}/{self.num_kv_heads} heads of {self.head_dim}, MLP "
            f"{self.intermediate_size}, vocabulary {self.vocab_size}; {self.reference}>"
        )

    def __str__(self) -> str:
        return repr(self)
