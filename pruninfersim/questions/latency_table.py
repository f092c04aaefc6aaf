"""A table for architecture searches: what each choice of a layer takes, on a GPU that nobody has at hand."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Never

import numpy as np

from pruninfersim._util.arrays import FloatArray, checked
from pruninfersim._util.defaults import CONTEXT, NEW_TOKENS
from pruninfersim._util.doors import door
from pruninfersim._util.files import write_text
from pruninfersim._util.words import refuse
from pruninfersim.cost import CostModel, Estimate
from pruninfersim.cost.memory import kv_memory, weight_memory
from pruninfersim.errors import InvalidInputError
from pruninfersim.hardware import HardwareProfile
from pruninfersim.models import ModelConfig
from pruninfersim.pruning.layer_choices import Choice, LayerChoices
from pruninfersim.questions.setup import Setup
from pruninfersim.stacks import Stack
from pruninfersim.trace import layer_weights
from pruninfersim.workload import Workload

if TYPE_CHECKING:
    import pandas as pd

#: Name and version of the layout.
SCHEMA, VERSION = "pruninfersim latency table", 1
BLOCKS = ("attention", "mlp")
MIB = 2.0**20
#: Whole models that are drawn to see how far a sum over the table is from the prediction of the whole.
DRAWS = 8
#: Columns of what is known of a choice.
COLUMNS = ("prefill_ms", "decode_ms", "runtime_ms", "num_params", "memory_mib", "kv_cache_memory_mib")


@dataclass(frozen=True, eq=False, repr=False)
class LatencyTable:
    """Time, weights and memory of every choice of every layer.

    Attributes
    ----------
    rows : tuple of dict
        One per layer, block and choice: layer, block, choice, and `COLUMNS`: prefill, one decode step, and a whole
        request [ms]; weights [1]; weights and KV cache, and KV cache alone [MiB].
    rest : dict
        The same of what no choice changes: embedding, final norm, LM head, and the engine's own work per pass.
    additive_error : float
        Largest difference between a sum over the table and the prediction of the whole model, of whole models drawn at
        random from the choices, relative [1]. It is what rounding leaves where kernels run one after the other, and
        more where a host is behind: the longer of host and GPU is no sum over layers.
    setup, batch, prompt, new_tokens
        What is timed: `batch` requests at a time.
    """

    rows: tuple[dict[str, Any], ...]
    rest: dict[str, float]
    additive_error: float
    setup: Setup
    batch: int
    prompt: int
    new_tokens: int

    def total(self, choices: LayerChoices, column: str = "runtime_ms") -> float:
        """Return the sum over the table for one whole model.

        Raises
        ------
        InvalidInputError
            If a choice is not in the table.
        """
        known = {(row["layer"], row["block"], row["choice"]): row[column] for row in self.rows}
        total = self.rest[column]
        for block in BLOCKS:
            for layer, choice in enumerate(getattr(choices, block)):
                if (layer, block, choice) not in known:
                    raise InvalidInputError(f"the table has no {choice!r} for {block} of layer {layer}")
                total += known[layer, block, choice]
        return float(total)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per layer, block and choice; what no choice changes is the last, of layer -1."""
        import pandas as pd

        return pd.DataFrame([*self.rows, {"layer": -1, "block": "rest", "choice": "keep", **self.rest}])

    def to_dict(self) -> dict[str, Any]:
        """Return the layout that ``subblock_stats.json`` of NVIDIA's Puzzletron has, with a header of its own.

        ``subblocks`` has ``subblock_config_class``, ``subblock_config``, ``parent_layer_index`` and the numbers;
        ``non_block`` what no choice changes; ``args`` the scenario. Keys with ``pruninfersim`` are not theirs.
        """
        model = self.setup.model
        return {
            "pruninfersim_schema": SCHEMA,
            "pruninfersim_version": VERSION,
            "pruninfersim_additive_error": self.additive_error,
            "args": {
                "gpu": self.setup.hardware.name,
                "batch_size": self.batch,
                "prefill_seq_len": self.prompt,
                "generation_seq_len": self.new_tokens,
                "n_embd": model.hidden_size,
                "n_head": model.num_heads,
                "vocab_size": model.vocab_size,
                "weights_dtype": self.setup.dtype,
                "runtime_stats": True,
                "stack": self.setup.stack.stack,
            },
            "non_block": _numbers(self.rest),
            "subblocks": [
                {
                    "subblock_config_class": "AttentionConfig" if row["block"] == "attention" else "FFNConfig",
                    "subblock_config": _config(row["block"], row["choice"], model),
                    "parent_layer_index": row["layer"],
                    **_numbers(row),
                }
                for row in self.rows
            ],
        }

    def write(self, path: str | Path) -> Path:
        """Write the table: ``.csv`` as `to_frame` has it, ``.json`` as a list of one `to_dict`, and return the path.

        Raises
        ------
        InvalidInputError
            If the name ends otherwise.
        """
        file = Path(path)
        if file.suffix not in (".csv", ".json"):
            raise InvalidInputError(f"the name ends with .csv or .json, which says the format; got {file.name!r}")
        if file.suffix == ".json":
            write_text(file, json.dumps([self.to_dict()], indent=1))
        else:
            about = f"# {SCHEMA} {VERSION}: {self!r}\n"
            write_text(file, about + self.to_frame().to_csv(index=False, lineterminator="\n"))
        return file

    def __repr__(self) -> str:
        return (
            f"<LatencyTable of {self.setup.model.name} on {self.setup.hardware.name}, {self.setup.stack.stack}: "
            f"{len(self.rows)} choices, sums within {self.additive_error:.1e} of whole models>"
        )

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(repr(self)[1:-1])}</p>{self.to_frame().to_html(index=False)}"


@door
def latency_table(
    model: str | ModelConfig | None = None,
    hardware: str | HardwareProfile | None = None,
    stack: str | Stack | CostModel = "vendor",
    *,
    attention: Sequence[Choice] = ("keep", "none"),
    mlp: Sequence[Choice] = ("keep", "none"),
    batch: int = 1,
    prompt: int = CONTEXT,
    new_tokens: int = NEW_TOKENS,
    dtype: str | None = None,
    out: str | Path | None = None,
    **other: Never,
) -> LatencyTable:
    """Return, and write, what every choice of every layer takes: the input of a search over architectures.

    A request is one prefill, and a decode step at the middle of its contexts for every token but the first.

    Parameters
    ----------
    model, hardware, stack, dtype : as in `pruninfersim.speedup`
    attention : several of "keep", "none", "linear", or a number of KV heads
        Choices for the attention of each layer, as in `pruninfersim.pruning.LayerChoices`.
    mlp : several of "keep", "none", "linear", or an FFN width
    batch, prompt, new_tokens : int
        Requests at a time, and tokens of each.
    out : path, optional
        File to write, ``.json`` or ``.csv``.

    Returns
    -------
    LatencyTable

    Raises
    ------
    UnknownNameError, InvalidInputError, MissingValueError

    >>> table = latency_table("llama-3.2-1b", "b200-sxm", attention=["keep", 4, "none"], mlp=["keep", 4096, "none"],
    ...                       out="table.json")
    >>> len(table.rows), table.additive_error < 1e-9  # 16 layers, 6 choices
    (96, True)
    """
    refuse(latency_table, other)
    if model is None or hardware is None:
        raise InvalidInputError("latency_table needs a model and a GPU: latency_table('llama-3.1-8b', 'h100-sxm')")
    setup = Setup(model, hardware, stack, dtype)
    choices = {"attention": _distinct("attention", attention), "mlp": _distinct("mlp", mlp)}
    for name, value in (("batch", batch), ("prompt", prompt), ("new_tokens", new_tokens)):
        checked(name, value, minimum=1, whole=True)
    work = Workload.request(batch, prompt, new_tokens)
    passes = (Workload.prefill(batch=batch, tokens=prompt), work.middle)
    steps = float(work.steps)
    layers = setup.model.num_layers
    found: dict[tuple[int, str, Choice], dict[str, float]] = {}
    rest: dict[str, float] = {}
    depth = max(len(each) for each in choices.values())
    for place in range(depth):  # one whole model per choice: all layers take it at once
        own = {block: several[min(place, len(several) - 1)] for block, several in choices.items()}
        timed = [_timed(setup, work_, LayerChoices(*((own[b],) * layers for b in BLOCKS))) for work_ in passes]
        for block in BLOCKS:
            for layer in range(layers):
                parts = [by_site[layer, BLOCKS.index(block)] for by_site, _ in timed]
                found[layer, block, own[block]] = _row(parts[0], parts[1], steps)
        if not rest:
            rest = _row(timed[0][1], timed[1][1], steps)
    rows = tuple(
        {"layer": layer, "block": block, "choice": choice, **found[layer, block, choice]}
        for layer in range(layers)
        for block in BLOCKS
        for choice in choices[block]
    )
    table = LatencyTable(rows, rest, 0.0, setup, batch, prompt, new_tokens)
    error = max(_error(table, passes, steps, drawn, layers) for drawn in _draws(choices, layers))
    table = LatencyTable(rows, rest, error, setup, batch, prompt, new_tokens)
    if out is not None:
        table.write(out)
    return table


def _distinct(name: str, given: Iterable[Choice]) -> tuple[Choice, ...]:
    several = (given,) if isinstance(given, str | int) else tuple(dict.fromkeys(given))
    if not several:
        raise InvalidInputError(f"the choices for {name} are empty; give at least 'keep'")
    return several


def _timed(setup: Setup, work: Workload, choices: LayerChoices) -> tuple[FloatArray, FloatArray]:
    """Return seconds, weights, bytes and KV bytes of each layer and block, and of the rest.

    Shapes (layer, block, 4) and (4,).
    """
    step = setup.estimate(setup.trace(work).prune(choices))
    ops = step.trace
    layers = setup.model.num_layers
    seconds = step.seconds if step.chain is None else (step.run + step.gap - step.chain.wait) * ops.count
    out = np.zeros((layers, len(BLOCKS), 4))
    for i, (own, block) in enumerate(zip(ops.layers, ops.block, strict=True)):
        if block in BLOCKS and own:
            one = ops.select([i])
            each = (seconds[i], layer_weights(one)[0], weight_memory(one), kv_memory(one))
            for layer in own:
                out[layer, BLOCKS.index(block)] += np.array([float(x) / len(own) for x in each])
    cache = float(kv_memory(ops))
    whole = np.array([float(step.busy), _parameters(step), float(weight_memory(ops)) + cache, cache])
    out[..., 2] += out[..., 3]
    return out, whole - out.sum(axis=(0, 1))


def _parameters(step: Estimate) -> float:
    """Return the weights of the layers, the embedding and the LM head."""
    model = step.trace.model
    tables = 0.0 if model is None else model.vocab_size * model.hidden_size * (1.0 if model.tie_embeddings else 2.0)
    return float(layer_weights(step.trace).sum()) + tables


def _row(prefill: FloatArray, decode: FloatArray, steps: float) -> dict[str, float]:
    seconds = (prefill[0], decode[0], prefill[0] + steps * decode[0])
    numbers = (*(1e3 * x for x in seconds), decode[1], decode[2] / MIB, decode[3] / MIB)
    return {name: float(value) for name, value in zip(COLUMNS, numbers, strict=True)}


def _draws(choices: dict[str, tuple[Choice, ...]], layers: int) -> list[LayerChoices]:
    """Return the same random whole models each time."""
    random = np.random.default_rng(0)
    return [
        LayerChoices(*(tuple(choices[b][i] for i in random.integers(len(choices[b]), size=layers)) for b in BLOCKS))
        for _ in range(DRAWS)
    ]


def _error(table: LatencyTable, passes: Sequence[Workload], steps: float, drawn: LayerChoices, layers: int) -> float:
    """Return how far a sum over the table is from the prediction of the whole model, relative [1]."""
    whole = [float(table.setup.estimate(table.setup.trace(work).prune(drawn)).total) for work in passes]
    return abs(table.total(drawn) / (1e3 * (whole[0] + steps * whole[1])) - 1.0)


def _numbers(row: dict[str, Any]) -> dict[str, float]:
    return {
        "runtime_ms": row["runtime_ms"],
        "prefill_runtime_ms": row["prefill_ms"],
        "decode_runtime_ms": row["runtime_ms"] - row["prefill_ms"],
        "num_params": round(row["num_params"]),
        "active_params": round(row["num_params"]),
        "memory_mib": row["memory_mib"],
        "kv_cache_memory_mib": row["kv_cache_memory_mib"],
    }


def _config(block: str, choice: Choice, model: ModelConfig) -> dict[str, Any]:
    """Return a choice in the words of ``block_configs``, which `ModelConfig.from_hf` reads."""
    if choice == "none":
        return {"no_op": True}
    size = {"attention": model.num_kv_heads, "mlp": model.intermediate_size}[block]
    key = {"attention": "num_key_value_heads", "mlp": "intermediate_size"}[block]
    linear = {"replace_with_linear": True} if choice == "linear" else {}
    return {**linear, key: choice if isinstance(choice, int) else size}
