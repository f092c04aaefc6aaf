"""Parts of a forward pass of the reference paper, predicted: Fig. 2, Fig. 6, Tables 7 to 9, where methods cross."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pruninfersim import hardware, pruning, stacks
from pruninfersim import ops as catalogue
from pruninfersim._util.arrays import FloatArray
from pruninfersim._util.defaults import PHASES
from pruninfersim.cost import CostModel, Estimate
from pruninfersim.questions.comparison import Speedup, compare_estimates
from pruninfersim.questions.single_kernel import replayed
from pruninfersim.reproduce.passes import FAMILIES, published, records
from pruninfersim.trace import OpTrace, trace
from pruninfersim.workload import Workload

if TYPE_CHECKING:
    import pandas as pd

MODEL, GPU, LAYERS = "llama-3.1-8b", "rtx-pro-6000", 32
PARTS_OF_A_LAYER = ("GEMM", "attention", "elementwise", "overhead ops", "launch gaps")
TERA = 1e12
#: Tokens at which crossings of whole passes are looked for, and those of Table 7, for single GEMMs.
TOKENS = np.unique(np.round(np.geomspace(1, 32768, 200)))
TABLE_7_TOKENS: FloatArray = np.exp2(np.arange(16.0))


def paper_stack() -> CostModel:
    """Return the stack "paper" on the card of the paper."""
    return stacks.get("paper", hardware.get(GPU))


def pass_at_32k(family: str, phase: str, sparsity: float = 0.5) -> Estimate:
    """Return the pass of Fig. 2 and 6: Llama-3.1-8B, batch 1, 32k context; `family` may be "dense"."""
    ops = trace(MODEL, Workload.of(phase, 1, 32768, "all"))
    return paper_stack().predict(ops if family == "dense" else ops.prune(pruning.get(family, sparsity)))


def layer(step: Estimate) -> dict[str, float]:
    """Return the time of the parts of one layer, of a single pass [s]; they add up to the layer.

    >>> parts = layer(pass_at_32k("dense", "prefill"))
    >>> tuple(parts) == PARTS_OF_A_LAYER, 0.06 < sum(parts.values()) < 0.07
    (True, True)
    """
    parts = dict.fromkeys(PARTS_OF_A_LAYER, 0.0)
    ops = step.trace
    for i in np.flatnonzero(ops.mask(blocks=["attention", "mlp"])):
        part = _part_of_paper(ops.name[i], ops.kernel[i])
        count = float(np.broadcast_to(ops.count, ops.shape)[i]) / LAYERS
        parts[part] += float(step.run[i]) * count
        parts["launch gaps"] += float(np.broadcast_to(step.gap, ops.shape)[i]) * count
    return parts


def _part_of_paper(name: str, key: str) -> str:
    """The paper counts transposes of 2:4 as elementwise, and the residual GEMMs of cross-layer width as extra."""
    if name.startswith("residual"):
        return "overhead ops"
    return "elementwise" if key == "transpose" else catalogue.get(key).part


def figure6() -> pd.DataFrame:
    """Return Fig. 6 beside predictions: phase, family, part (or "total"), measured and predicted [s].

    A decode step of dynamic depth is the mean of a token that is kept and one that is skipped (GEMV variant, which
    batch 1 uses).
    """
    import pandas as pd

    table = published("fig6")
    table["seconds"] = table["value"] * np.where(table["unit"] == "ms", 1e-3, 1e-6)
    rows = []
    for phase in PHASES:
        for family in ("dense", *FAMILIES):
            labels = [family]
            if (family, phase) == ("dynamic-depth", "decode"):
                labels = ["dynamic-depth (GEMV)", "dynamic-depth (skipped GEMV)"]
            theirs = table[(table["phase"] == phase) & table["family"].isin(labels)]
            if theirs.empty:
                continue
            mine = layer(pass_at_32k(family, phase))
            measured = theirs.groupby("component")["seconds"].sum() / len(labels)
            total = theirs.loc[theirs["component"] == "sum", "seconds"].sum() / len(labels)
            rows += [(phase, family, part, float(measured.get(part, 0.0)), mine[part]) for part in PARTS_OF_A_LAYER]
            rows.append((phase, family, "total", float(total), sum(mine.values())))
    return pd.DataFrame(rows, columns=["phase", "family", "part", "measured", "predicted"])


def figure2() -> pd.DataFrame:
    """Return Fig. 2 beside predictions: phase, part, measured and predicted; total in s, parts as shares of it."""
    import pandas as pd

    rows = []
    for row in records(published("fig2")):
        step = pass_at_32k("dense", row.phase)
        total, parts = float(step.latency), layer(step)
        head = float(step.seconds[step.trace.mask(kernels=["lm_head"])].sum()) / total
        share = {part: LAYERS * value / total for part, value in parts.items()}
        rows += [
            (row.phase, "total [s]", row.total_s, total),
            (row.phase, "GEMM", row.gemm, share["GEMM"]),
            (row.phase, "attention", row.attention, share["attention"]),
            (row.phase, "elementwise", row.elementwise, share["elementwise"]),
            (row.phase, "LM head", row.lm_head, head),
        ]
    return pd.DataFrame(rows, columns=["phase", "part", "measured", "predicted"])


# --- Tables 7 to 9 ----------------------------------------------------------------------------------------------


def gemm_rates(tokens: FloatArray) -> dict[tuple[str, str], FloatArray]:
    """Return dense-equivalent rates of GEMMs, (projection, side) -> shape (token count,) [FLOP/s]; pruned at 50 %.

    Replayed, as Table 7 was measured: from 2 to 64 tokens its weights come from L2.
    """
    dense = trace(MODEL, Workload.prefill(tokens=tokens, logits="all"))
    sides = {"dense": dense, "semi_structured": dense.prune(pruning.get("semi-structured", 0.5))}
    sides["dynamic_depth"] = dense.prune(pruning.get("dynamic-depth", 0.5))
    found = {}
    for projection in ("q", "up", "down"):
        flops = dense.select(dense.mask(names=[projection])).flops[..., 0]
        for side, ops in sides.items():
            found[projection, side] = flops / replayed(_named(ops, [projection]), paper_stack())
    return found


def attention_rates(phase: str, size: FloatArray) -> dict[str, FloatArray]:
    """Return dense-equivalent rates of attention by side, shape (size,) [FLOP/s].

    `size` is the prompt in prefill (Table 8) and the batch at 32768 keys in decode (Table 9).
    """
    dense = trace(MODEL, Workload.prefill(tokens=size) if phase == "prefill" else Workload.decode(size, 32768))
    sides = {"dense": dense}
    for side, family in (("dynamic_depth", "dynamic-depth"), ("sparse_attention", "sparse-attention")):
        sides[side] = dense.prune(pruning.get(family, 0.5))
    keys = [f"{kind}_{phase}" for kind in ("attention", "token_attention", "block_sparse")]
    chosen = {side: ops.select(ops.mask(kernels=keys)) for side, ops in sides.items()}
    flops = chosen["dense"].flops[..., 0]
    return {side: flops / paper_stack().predict(ops).run[..., 0] for side, ops in chosen.items()}


def attention_meets_ffn() -> float:
    """Return the prompt length from which attention takes as long as gate, up and down [tokens]."""
    tokens = np.geomspace(1024, 131072, 400).round()
    step = paper_stack().predict(trace(MODEL, Workload.prefill(tokens=tokens, logits="all")))
    attention = step.seconds[..., step.trace.mask(kernels=["attention_prefill"])].sum(axis=-1)
    ffn = step.seconds[..., step.trace.mask(names=["gate", "up", "down"])].sum(axis=-1)
    return float(tokens[np.argmax(attention >= ffn)])


# --- crossovers -------------------------------------------------------------------------------------------------


class Crossover(NamedTuple):
    """Tokens from which on a method is never slower than dense: estimate, and ends of its 90 % interval.

    1 if it is never slower, infinite if it never gets there.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{_tokens(self.value)} [{_tokens(self.low)}, {_tokens(self.high)}]"


def _tokens(value: float) -> str:
    if np.isinf(value):
        return "never"
    return "always" if value <= TOKENS[0] else f"{value:.0f}"


def crossover(family: str, *, gpu: str = GPU, stack: str = "paper", names: tuple[str, ...] = ()) -> Crossover:
    """Return from how many prompt tokens on a method at 50 % is never slower than the dense Llama-3.1-8B.

    Parameters
    ----------
    family, gpu, stack : str
    names : tuple of str
        GEMMs that count, such as ("q",); default is the whole forward pass.
    """
    model = stacks.get(stack, hardware.get(gpu))
    dense, pruned = _sides(family, TOKENS, gpu, stack, names)
    result: Speedup = compare_estimates(model.predict(dense), model.predict(pruned))
    low, high = result.interval
    return Crossover(*(_from(TOKENS, np.asarray(speed)) for speed in (result.estimated, high, low)))


def replayed_crossover(family: str, name: str) -> Crossover:
    """Return from how many tokens on one GEMM at 50 % is never slower than dense in a micro-benchmark (Table 7).

    Replayed weights come from L2 where they fit. Errors are taken to be those of the same GEMMs with cold weights.
    """
    model, tokens = paper_stack(), TABLE_7_TOKENS
    sides = _sides(family, tokens, GPU, "paper", (name,))
    speed = replayed(sides[0], model) / replayed(sides[1], model)
    cold = compare_estimates(*(model.predict(side) for side in sides))
    low, high = (np.asarray(end) / np.asarray(cold.estimated) for end in cold.interval)
    return Crossover(*(_from(tokens, speed * factor) for factor in (1.0, high, low)))


def _sides(family: str, tokens: FloatArray, gpu: str, stack: str, names: tuple[str, ...]) -> list[OpTrace]:
    """Return the dense pass and the one that is pruned at 50 %, or some of their ops."""
    dense = trace(MODEL, Workload.prefill(tokens=tokens, logits=stacks.get(stack, hardware.get(gpu)).protocol.logits))
    return [_named(side, names) if names else side for side in (dense, dense.prune(pruning.get(family, 0.5)))]


def _named(ops: OpTrace, names: list[str] | tuple[str, ...]) -> OpTrace:
    return ops.select(ops.mask(names=list(names)))


def _from(tokens: FloatArray, speed: FloatArray) -> float:
    """Return the first tokens after the last loss."""
    losses = np.flatnonzero(speed < 1.0)
    if not len(losses):
        return float(tokens[0])
    return float(tokens[losses[-1] + 1]) if losses[-1] + 1 < len(tokens) else float("inf")
