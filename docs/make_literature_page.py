"""Write docs/literature.md: run ``python docs/make_literature_page.py`` after a change of a kernel or a method."""

from __future__ import annotations

import csv
import itertools
import json
import warnings
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import pruninfersim as pis
from pruninfersim.questions.capacity import reported_memory
from pruninfersim.questions.comparison import compare_estimates

PAGE = Path(__file__).with_name("literature.md")
TABLE = Path(__file__).parents[1] / "validation" / "literature.csv"
MODELS = TABLE.with_name("literature_models.json")
#: Rows that choose what a method keeps; a measurement of an attention kernel contains them.
CHOOSING = ("block_score", "block_index")
#: PyTorch without a graph around kernels of a paper's own: norms, rotary embedding and cache are one kernel each, and
#: the cache stays in place.
OWN_KERNELS = replace(
    pis.stacks.ENGINES["transformers"],
    name="eager",
    launched=replace(
        pis.stacks.ENGINES["transformers"].launched,
        of=(("norm", 2.0), ("qk_norm", 1.0), ("rope", 1.0), ("kv_append", 1.0), ("act", 2.0)),
        copies_cache=False,
    ),
    unfused=(("act", 10.0 / 6.0),),
)
#: Ratio of the largest to the smallest prediction above which what a row leaves open says more than the row.
OPEN = 1.25
#: Cells that may hold what a row leaves open, as values between bars.
ALTERNATIVES = ("model", "hardware", "stack", "batch", "prompt")
LEAD = """# Speedups in the literature

Measured speedups that papers and their repositories state, beside the prediction for the same model, GPU and workload.
No number was fitted to them. How a row is expressed (which method stands for its pruning, which software ran it where
the row or its repository does not say) was decided by reading the papers, for some families (Deja Vu, DuoAttention,
Quest, VENOM, Basis Sharing) a second time after a first comparison was far off; with the first readings 79 % of the
rows were inside. The card of SparseGPT's kernels is read as one of 80 GB, as the paper names it, since all three
kinds of A100 together left these rows open. A test keeps that no prediction depends on the measured figure.

**What a row leaves open is varied.** "A100 80GB" is an SXM or a PCIe card; a batch that is not stated is 1 or 16. The
prediction is the middle of what comes out, and the interval spans all of it. Where that moves the prediction by more
than a quarter, the row stands below, with what is missing. Of "up to" a number, the best of what was tried is
predicted.

**Software** is what the row or its repository says: vLLM, TensorRT-LLM, gpt-fast (`torch-compile`), or models of
Hugging Face (`transformers`: SLEB, SliceGPT, LLaVA of FastV, CATS, VENOM). `eager` is PyTorch without a graph around
kernels and a cache of the repository's own (Quest, DuoAttention). Where nobody says, and where kernels alone were
timed, it is `vendor`: kernels without software around them. A request is its prompt and its steps at the middle
context; with 64 clients, a token also waits for the prompts of the others. Models on several GPUs one after the other
take the time of one; tensor parallelism is priced, and FP8 2:4 on one GPU beside dense on two is compared per GPU. A
largest batch that is not stated is what `capacity` finds, in powers of two.

Not in the predictions: image encoders, and routers that are models of their own. Kernels of attention are priced with
the heads of Llama-3.1-8B, where a paper names none. Times of single kernels have the interval of these kernels.

Where it misses, and why: 2:4 in FP8 on a B200 loses below 512 tokens in the timings of SpenseGPT, and gains in those
that the kernel model was fitted to, the best algorithm of a search each. On 12288-wide matrices CUTLASS gained more
than cuSPARSELt does. vLLM served pruned Qwen3-8B in proportion to the layers, with a dense time per token more than ten
times the predicted one: something other than kernels and a usual host sets it. Kernels of V:N:M and of Flash-LLM reach
less than their bytes and FLOPs allow. SVD-LLM V2 and PuDDing are faster than 1/(1-s). Deja Vu loses with the length of
the prompt, which its sparsity of weights does not explain.
"""


class Answer(NamedTuple):
    """A prediction and its 90 % interval [1]."""

    predicted: float
    low: float
    high: float


class Compared(NamedTuple):
    """One measured speedup with its prediction."""

    row: dict[str, str]
    predicted: float
    low: float
    high: float

    @property
    def error(self) -> float:
        """Predicted over measured, less one [1]."""
        return self.predicted / float(self.row["measured"]) - 1.0

    @property
    def inside(self) -> bool:
        """Whether the measurement lies in the 90 % interval."""
        return bool(self.low <= float(self.row["measured"]) <= self.high)


def rows() -> list[dict[str, str]]:
    """Return the table."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@cache
def model(name: str) -> pis.ModelConfig:
    """Return a shipped model, or one of `literature_models.json`."""
    own = json.loads(MODELS.read_text(encoding="utf-8"))
    return pis.ModelConfig.from_hf(own[name]["config"], name=name) if name in own else pis.models.get(name)


@cache
def software(name: str, hardware: str) -> Any:
    """Return a stack on a GPU; kernels only where nobody says which."""
    named = OWN_KERNELS if name == OWN_KERNELS.name else name or "vendor"
    return pis.stacks.get(named, pis.hardware.get(hardware))


def method(steps: list[Any]) -> Any:
    """Return the methods of a recipe, ``[name, options, name, options, ...]``, or None for an empty one."""
    classes = {**pis.pruning.EVERY, "n-of-m": pis.pruning.NOfM, "layer-choices": pis.pruning.LayerChoices}
    made = [classes[name](**options) for name, options in zip(steps[::2], steps[1::2], strict=True)]
    return made or None


class Side(NamedTuple):
    """One side of a comparison: a model on some GPUs with some batch, and what was done to it."""

    setup: pis.Setup
    method: Any
    batch: int

    def step(self, workload: pis.Workload, roles: list[str]) -> pis.Estimate:
        """Return the estimate of one pass, or of some of its ops: linear layers, attention with what chooses keys."""
        ops = self.setup.trace(workload)
        ops = ops if self.method is None else ops.prune(*self.method)
        if roles:
            choosing = ops.mask(kernels=CHOOSING) & ("attention" in roles)
            ops = ops.select(np.isin(ops.roles, [role.partition(" ")[0] for role in roles]) | choosing)
        return self.setup.estimate(ops)


def sides(row: dict[str, str]) -> tuple[Side, Side, float]:
    """Return both sides of a row, and by what the ratio of their times is multiplied for a speedup."""
    recipe = json.loads(row["recipe"])
    given = recipe if isinstance(recipe, dict) else {"methods": recipe}
    dtype, tp = row["dtype"] or None, int(given.get("tp", 1))
    stack = software(row["stack"], row["hardware"])
    if row["phase"] == "serving" and stack.serving.lower is not None:
        stack = replace(stack, lower=stack.serving.lower)
    dense = pis.Setup(model(row["model"]), row["hardware"], stack, dtype, tp)
    less = int(given.get("pruned_tp", tp))
    pruned = pis.Setup(model(given.get("pruned_model", row["model"])), row["hardware"], stack, dtype, less)
    done = method(given.get("methods", []))
    gpus = int(given.get("gpus", 1)), int(given.get("pruned_gpus", given.get("gpus", 1)))
    if row["batch"] == "max":
        both = (dense, None, gpus[0]), (pruned, done, gpus[1])
        batches = [largest_batch(*side, int(row["prompt"])) for side in both]
    else:
        batches = [int(row["batch"] or 1), int(given.get("pruned_batch", row["batch"] or 1))]
    scale = batches[1] / batches[0] * (tp / less if given.get("per_gpu") else 1.0)
    return Side(dense, None, batches[0]), Side(pruned, done, batches[1]), scale


def largest_batch(setup: pis.Setup, methods: Any, gpus: int, context: int) -> int:
    """Return the largest power of two of sequences that fit into the memory of some GPUs."""
    room = pis.capacity(
        model=setup.model, hardware=setup.hardware, stack=setup.stack, method=methods, context=context,
        memory=gpus * reported_memory(setup.hardware), dtype=setup.dtype,
    )  # fmt: skip
    return int(2 ** np.floor(np.log2(max(room.largest_batch, 1))))


def passes(row: dict[str, str], batch: int) -> list[tuple[pis.Workload, float]]:
    """Return the passes that a measurement consists of, and how often each runs."""
    prompt, new = int(row["prompt"] or 1), int(row["new_tokens"] or 1)
    first = pis.Workload.prefill(batch, max(prompt, 1))
    middle = pis.Workload.decode(batch, max(prompt + new // 2, 1))
    if row["phase"] == "prefill":
        return [(first, 1.0)]
    if row["phase"] == "decode":
        return [(middle if row["new_tokens"] else pis.Workload.decode(batch, max(prompt, 1)), 1.0)]
    if row["phase"] == "serving":  # a closed loop: a token also waits for the prefills of the others
        return [(pis.Workload.prefill(1, prompt), (batch - 1.0) / new), (middle, 1.0)]
    return [(first, 1.0), (middle, float(new))]


def answer(row: dict[str, str]) -> Answer:
    """Return the prediction of a row that leaves nothing open."""
    dense, pruned, scale = sides(row)
    roles = row["part"].split(",") if row["part"] else []
    pairs = zip(passes(row, dense.batch), passes(row, pruned.batch), strict=True)
    found = [(compare_estimates(dense.step(a, roles), pruned.step(b, roles)), times) for (a, times), (b, _) in pairs]
    total = sum(times * one.dense.latency for one, times in found)
    values = (([one.estimated, *one.interval], times, one.dense.latency) for one, times in found)
    spent = np.sum([times * seconds / np.array(value, dtype=float) for value, times, seconds in values], axis=0)
    return Answer(*(float(scale * total / side) for side in spent))


def compare(row: dict[str, str]) -> Compared | str:
    """Return a row with its prediction, or why it cannot be compared.

    What the row leaves open is varied: the prediction is the middle, and the interval spans all of it. Of what is said
    to be "up to" a number, the best of what was tried is predicted.
    """
    if row["reason"]:
        return row["reason"]
    every = itertools.product(*(row[name].split("|") for name in ALTERNATIVES))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [answer(row | dict(zip(ALTERNATIVES, cells, strict=True))) for cells in every]
    if row["largest"]:
        return Compared(row, *max(found))
    least, most = min(found).predicted, max(found).predicted
    if most > OPEN * least:
        return f"what is not stated moves the prediction from {least:.2f} to {most:.2f}"
    return Compared(row, float(np.sqrt(least * most)), min(one.low for one in found), max(one.high for one in found))


def everything() -> tuple[list[Compared], list[dict[str, str]]]:
    """Return the rows that are compared, and those that are not, with a reason."""
    compared, left = [], []
    for row in rows():
        found = compare(row)
        if isinstance(found, str):
            left.append(row | {"reason": found})
        else:
            compared.append(found)
    return compared, left


def summary(name: str, of: list[Compared]) -> str:
    """Return a row of the table of errors."""
    errors = np.array([abs(one.error) for one in of])
    bias = np.median([one.error for one in of])
    inside = np.mean([one.inside for one in of])
    return f"| {name} | {len(of)} | {np.median(errors):.1%} | {bias:+.1%} | {inside:.0%} |"


def tables(compared: list[Compared]) -> list[str]:
    """Return the tables of errors, by family and by software."""
    lines = []
    for title, key in (("family", "family"), ("software", "stack")):
        known = dict.fromkeys(one.row[key] for one in compared)
        lines += [
            f"## Error by {title}",
            "",
            f"| {title} | rows | median absolute error | median error | inside the 90 % interval |",
            "|---|---|---|---|---|",
            *(summary(said(name) or "vendor", [one for one in compared if one.row[key] == name]) for name in known),
        ]
        if key == "family":
            high = [one for one in compared if one.row["confidence"] == "high"]
            lines += [summary("**high confidence**", high), summary("**all**", compared)]
        lines.append("")
    return lines


def page(found: tuple[list[Compared], list[dict[str, str]]] | None = None) -> str:
    """Return the page."""
    compared, left = everything() if found is None else found
    methods = {one.row["method"] for one in compared}
    lines = [
        LEAD,
        f"{len(compared)} of {len(compared) + len(left)} rows can be compared, of {len(methods)} methods.",
        "",
        *tables(compared),
        "## Every row",
        "",
        "| method | as | model | GPU | software | phase | batch | tokens | measured | predicted | interval | inside |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in compared:
        row = one.row
        what = f"{row['phase']} {row['part']}".strip()
        cells = {name: said(row[name]) for name in ALTERNATIVES}
        lines.append(
            f"| {linked(row)} | {recipe(row)} | {cells['model']} | {unbroken(cells['hardware'])} | "
            f"{cells['stack'] or 'vendor'} | {what} | {cells['batch']} | {cells['prompt']} | "
            f"{float(row['measured']):.2f} | {one.predicted:.2f} | {one.low:.2f} to {one.high:.2f} | "
            f"{'yes' if one.inside else 'no'} |"
        )
    lines += [
        "",
        "## What cannot be compared, and why",
        "",
        "| method | model | GPU | measured | confidence | reason |",
        "|---|---|---|---|---|---|",
    ]
    for row in left:
        shown = (said(row[name]) for name in ("model", "hardware", "measured", "confidence", "reason"))
        lines.append(f"| {linked(row)} | {' | '.join(shown)} |")
    return "\n".join([*lines, ""])


def unbroken(names: str) -> str:
    """Return names that no browser breaks at their hyphens, for a narrow column."""
    return names.replace("-", "&#8209;")


def said(cell: str) -> str:
    """Return a cell with what it leaves open, for a reader."""
    return cell.replace("|", " or ")


def recipe(row: dict[str, str]) -> str:
    """Return what was predicted, for a reader: methods with their numbers, and how else the sides differ."""
    given = json.loads(row["recipe"])
    steps = given if isinstance(given, list) else given.get("methods", [])
    named = [
        " ".join([f"`{name}`", *(f"{v}" if k == "sparsity" else f"{k} {v}" for k, v in options.items() if v != [])])
        for name, options in zip(steps[::2], steps[1::2], strict=True)
        if name != "layer-choices"
    ] + ["`layer-choices`"] * ("layer-choices" in steps)
    rest = {} if isinstance(given, list) else {k: v for k, v in given.items() if k != "methods"}
    return ", ".join([*named, *(f"{key.replace('_', ' ')} {value}" for key, value in rest.items())])


def linked(row: dict[str, str]) -> str:
    """Return the method of a row, with its source if that is an address."""
    return f"[{row['method']}]({row['source']})" if row["source"].startswith("http") else row["method"]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
