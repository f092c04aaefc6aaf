"""How much fits: weights, activations and runtime leave room for KV tokens, and these for a batch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Never

import numpy as np

from pruninfersim import hardware as hardware_registry
from pruninfersim import pruning, stacks
from pruninfersim._util.arrays import checked
from pruninfersim._util.defaults import LENGTH
from pruninfersim._util.doors import door
from pruninfersim._util.words import refuse
from pruninfersim.cost import CostModel
from pruninfersim.cost.memory import kv_memory, weight_memory
from pruninfersim.cost.serving import Serving
from pruninfersim.cost.sharding import shard
from pruninfersim.errors import InvalidInputError, MissingValueError, shown
from pruninfersim.hardware import HardwareProfile, traits
from pruninfersim.models import ModelConfig
from pruninfersim.pruning import Method, Ratio
from pruninfersim.questions.setup import Setup
from pruninfersim.questions.vocabulary import needs_method
from pruninfersim.stacks import Stack
from pruninfersim.trace import OpTrace
from pruninfersim.workload import Workload

if TYPE_CHECKING:
    import pandas as pd

#: What a driver reports of the memory in a card's name, counted in GiB: 23.5 of 24, 79.1 of 80.
REPORTED = 0.985
#: The same of server cards with GDDR, whose error correction takes a sixteenth (22.0 of 24, 44.4 of 48).
REPORTED_INLINE_ECC = 0.92
#: Bytes per sequence and entry of the vocabulary in the sampler of vLLM, which its start-up profiles: fp32 logits,
#: probabilities, sorted values and 64-bit indices, masks; 2.7 % off eleven logged peaks.
SAMPLER_BYTES = 38.8
#: First figure that no GPU, and no model, will ever have.
MOST = 1e18
#: Fewest bytes that a memory, or the weights of a model, can be meant to have: below, a number is in GB [B].
LEAST_BYTES = 1e6
#: Memory from which vLLM allows steps of 8192 tokens, and not 2048 [B].
LARGE_CARD = 70 * 2**30


@dataclass(frozen=True, eq=False, repr=False)
class Capacity:
    """What the memory of a GPU holds for an engine and a model; bytes unless said.

    Attributes
    ----------
    kv_tokens : float
        Tokens whose keys and values fit [1]; 0 if not even the weights do.
    largest_batch : int
        Sequences of `context` tokens that fit at once.
    context : float
        Tokens of a sequence, prompt and output [1].
    memory, memory_share : float
        What the driver reports, and the share of it that the engine takes.
    weight_bytes, activation_bytes, reserve, kv_bytes : float
        Weights as stored; room for the largest step; runtime; what is left for the KV cache.
    kv_bytes_per_token : float
    setup, trace : optional
        Model and GPU, and the decode step of one sequence, where names were given.
    """

    kv_tokens: float
    largest_batch: int
    context: float
    memory: float
    memory_share: float
    weight_bytes: float
    activation_bytes: float
    reserve: float
    kv_bytes: float
    kv_bytes_per_token: float
    setup: Setup | None = field(default=None, repr=False)
    methods: tuple[Any, ...] = field(default=(), repr=False)

    @property
    def fits(self) -> bool:
        """Whether one sequence of the context fits."""
        return self.largest_batch >= 1

    @property
    def tokens_per_second(self) -> float | None:
        """Output of a decode step with the largest batch at the context [1/s]; None without a model, or if none fits.

        Pruning that frees memory gains here even where it does not make a step faster.
        """
        if self.setup is None or not self.fits:
            return None
        step = self.setup.trace(Workload.decode(batch=self.largest_batch, context=self.context))
        return float(self.largest_batch / np.asarray(self.setup.estimate(step.prune(*self.methods)).latency))

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as plain floats, ready for JSON."""
        names = (
            "kv_tokens", "largest_batch", "context", "memory", "memory_share", "weight_bytes", "activation_bytes",
            "reserve", "kv_bytes", "kv_bytes_per_token",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names} | {"tokens_per_second": self.tokens_per_second}

    def to_frame(self) -> pd.DataFrame:
        """Return one row: what `to_dict` has."""
        import pandas as pd

        return pd.DataFrame([self.to_dict()])

    def __repr__(self) -> str:
        return (
            f"<Capacity {self.kv_tokens:.0f} KV tokens, batch {self.largest_batch} at {self.context:.0f} tokens: "
            f"{self.memory_share:g} x {self.memory / 2**30:.4g} GiB, weights {self.weight_bytes / 2**30:.4g}, "
            f"activations {self.activation_bytes / 2**30:.3g}, reserve {self.reserve / 2**30:.3g} GiB>"
        )


@door
def capacity(
    *,
    model: str | ModelConfig | None = None,
    hardware: str | HardwareProfile | None = None,
    stack: str | Stack | CostModel = "vendor",
    method: Method | None = None,
    sparsity: Ratio | None = None,
    context: float = LENGTH,
    dtype: str | None = None,
    memory: float | None = None,
    memory_share: float | None = None,
    weight_bytes: float | None = None,
    reserve: float | None = None,
    layers: float | None = None,
    kv_heads: float | None = None,
    head_dim: float | None = None,
    kv_bytes_per_element: float | None = None,
    hidden_size: float | None = None,
    intermediate_size: float | None = None,
    vocab_size: float | None = None,
    max_batched_tokens: float | None = None,
    max_sequences: float | None = None,
    tp: int = 1,
    **other: Never,
) -> Capacity:
    """Return how many KV tokens, and sequences, fit beside the weights.

    ``KV bytes = memory_share x memory - weights - activations - reserve``, with room for the larger of the MLP of the
    largest step and the sampler, ``max(T (3 I + 4 h) 2 B, S V 38.8 B)``: T tokens, S sequences, I intermediate, h
    hidden, V vocabulary. Against 17 start-up logs of vLLM 4 % in the mean, 12 % at worst.

    Parameters
    ----------
    model, hardware : str or object, optional
        Any figure below can be given in place of what follows from their names.
    stack : str, callable or CostModel
        Engines differ in share, reserve and activations; "vendor" takes all memory and reserves nothing.
    method : str, method object, or a sequence of them, optional
        Pruning, as it changes weights and KV cache.
    sparsity : Ratio, optional
        Of methods given by name [1].
    context : float
        Tokens of a sequence, prompt and output.
    dtype : str, optional
        Precision of the linear layers.
    memory : float
        As the driver reports it [B].
    memory_share : float
        Share that the engine takes [1].
    weight_bytes, reserve : float
        [B]
    layers, kv_heads, head_dim : float
        Of the KV cache.
    kv_bytes_per_element : float
        [B]
    hidden_size, intermediate_size, vocab_size : float
        Of the model, for the activations.
    max_batched_tokens, max_sequences : float
        Of the largest step.
    tp : int
        GPUs over which the model is split (tensor parallelism). Bytes are those of one of them, also where given.

    Raises
    ------
    InvalidInputError
        If a figure is not above 0, a share is above 1, a sparsity has no method, or a keyword is not known.
    MissingValueError
        If a figure is missing and no name gives it.

    >>> room = capacity(model="llama-3.1-8b", hardware="rtx-4090", stack="vllm", context=8192)
    >>> room.largest_batch, 0.85 < room.kv_tokens / 41408 < 1.15  # vLLM 0.19 logs 41,408 tokens
    (4, True)
    """
    refuse(capacity, other)
    given = {
        k: v
        for k, v in locals().items()
        if k not in ("model", "hardware", "stack", "method", "sparsity", "dtype", "tp", "other")
    }
    for name, value in given.items():
        if value is None:
            continue
        figure = checked(name, value, minimum=0.0, below=MOST)
        if figure.ndim or (figure == 0 and name != "reserve"):
            raise InvalidInputError(f"{name} must be one number above 0; got {shown(value)}")
        if name == "memory_share" and figure > 1:
            raise InvalidInputError(f"memory_share is a fraction, such as 0.9; got {shown(value)}")
        if name in ("memory", "weight_bytes") and figure < LEAST_BYTES:
            raise InvalidInputError(f"{name} is in bytes: 80 GB is 80e9; got {shown(value)}")
    needs_method(method, sparsity)
    gpu = None if hardware is None else hardware_registry.get(hardware)
    serving = _serving(stack, gpu)
    setup = Setup(model, gpu, stack, dtype, tp) if model is not None and gpu is not None else None
    config = setup.model if setup else None if model is None else Setup(model, "h100-sxm", "ideal").model
    methods: tuple[Any, ...] = ()
    shard(OpTrace.from_rows([{}]), tp)  # says what is wrong with the number
    one: OpTrace | None = None
    if config is not None:
        methods = () if method is None else (pruning.resolve(method, sparsity),)
        work = Workload.decode(context=context)
        one = (setup or Setup(config, "h100-sxm", "ideal", dtype)).trace(work).prune(*methods)
        one = shard(one, tp)
        if one.sweep_shape:
            raise InvalidInputError("capacity answers for one sparsity; give one number, and ask once for each")
    total = _figure("memory", memory, reported_memory(gpu) if gpu else None)
    share = serving.memory_share if memory_share is None else memory_share
    weights = _figure("weight_bytes", weight_bytes, float(weight_memory(one)) if one is not None else None)
    per_token = _kv_per_token(one, config, context, layers, kv_heads, head_dim, kv_bytes_per_element, tp)
    activations = 0.0
    if serving.activations:
        tokens = max_batched_tokens or serving.batched_tokens(total >= LARGE_CARD, context)
        hidden = _figure("hidden_size", hidden_size, config.hidden_size if config else None)
        wide = _figure("intermediate_size", intermediate_size, config.intermediate_size if config else None)
        words = _figure("vocab_size", vocab_size, config.vocab_size if config else None)
        sampler = (max_sequences or serving.max_sequences) * words * SAMPLER_BYTES
        activations = max(tokens * (3.0 * wide / tp + 4.0 * hidden) * 2.0, sampler)
    kept = serving.reserve if reserve is None else reserve
    left = max(share * total - weights - activations - kept, 0.0)
    fitting = left / per_token
    return Capacity(
        kv_tokens=float(np.floor(fitting)),
        largest_batch=int(fitting // context),
        context=float(context),
        memory=total,
        memory_share=share,
        weight_bytes=weights,
        activation_bytes=activations,
        reserve=kept,
        kv_bytes=left,
        kv_bytes_per_token=per_token,
        setup=setup,
        methods=methods,
    )


def reported_memory(hardware: HardwareProfile) -> float:
    """Return the memory that a driver reports for a GPU [B].

    Names of cards say GB and mean GiB; a little of it is the driver's, and on server cards with GDDR a sixteenth holds
    the error correction.

    >>> round(reported_memory(hardware_registry.get("rtx-4090")) / 2**30, 1)
    23.6
    """
    inline = traits.memory_class(hardware) != "HBM" and not hardware.name.startswith("rtx")
    return hardware.memory_size / 1e9 * 2**30 * (REPORTED_INLINE_ECC if inline else REPORTED)


def _serving(stack: str | Stack | CostModel, hardware: HardwareProfile | None) -> Serving:
    """Return the facts of a stack about memory; an engine's do not depend on the GPU."""
    if isinstance(stack, str) and stack in stacks.ENGINES:
        return stacks.ENGINES[stack].serving
    if isinstance(stack, stacks.Engine):
        return stack.serving
    if isinstance(stack, CostModel):
        return stack.serving
    return stacks.get(stack, hardware or hardware_registry.get("h100-sxm")).serving


def _figure(name: str, given: float | None, known: float | None) -> float:
    value = known if given is None else given
    if value is None:
        raise MissingValueError(f"capacity needs {name}, or a model and a GPU by name that give it")
    return float(value)


def _kv_per_token(
    one: OpTrace | None,
    config: ModelConfig | None,
    context: float,
    layers: float | None,
    kv_heads: float | None,
    head_dim: float | None,
    element: float | None,
    tp: int,
) -> float:
    """Return the bytes of the KV cache per token of one sequence on one GPU [B]."""
    if one is not None and layers is None and kv_heads is None and head_dim is None:
        if element is not None:
            states = one.mask(kernels=["linear_attention"])  # no keys, no values
            one = one.with_columns(b_bytes=np.where(states, one.b_bytes, element))
        return float(kv_memory(one)) / context
    parts = (
        _figure("layers", layers, config.num_layers if config else None),
        max(_figure("kv_heads", kv_heads, config.num_kv_heads if config else None) / tp, 1.0),
        _figure("head_dim", head_dim, config.head_dim if config else None),
        2.0 if element is None else element,
    )
    return float(2.0 * np.prod(parts))
