"""Write docs/literature.md: run ``python docs/make_literature_page.py`` after a change of a kernel or a method."""

from __future__ import annotations

import csv
import json
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

import pruninfersim as pis
from pruninfersim.errors import PruninfersimError

PAGE = Path(__file__).with_name("literature.md")
TABLE = Path(__file__).parents[1] / "validation" / "literature.csv"
#: Rows that choose what a method keeps; a measurement of an attention kernel contains them.
CHOOSING = ("block_score", "block_index")
LEAD = """# Speedups in the literature

Measured speedups that papers and their repositories state, beside the prediction of stack `vendor` for the same model,
GPU and workload. Nothing was fitted to them. A row can be compared if its model, GPU, batch, lengths and sparsity are
stated; the others stand below with what is missing.

What the predictions leave out: the software around the kernels (most papers measure eager PyTorch, whose host time
pulls speedups of small batches towards 1), image encoders, queues. A request is its prompt and its steps at the middle
context. Kernels of attention are priced with the heads of Llama-3.1-8B, where a paper names none.

Where it misses, and why: FlashAttention 2 as vLLM pages it does not split the cache of Llama-2, so that fewer heads
bring nothing there (DuoAttention measured with a kernel that does); block-sparse attention at 90 % has costs at short
prompts that the kernel model does not have; 2:4 in Hugging Face transformers does not use the library's decode path;
first tokens of LLaVA contain its image encoder; GPUs of papers run at clocks that they do not state.
"""


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


def compare(row: dict[str, str]) -> Compared:
    """Return a row with its prediction."""
    name, options = json.loads(row["recipe"])
    method = pis.pruning.EVERY[name](**options)
    setup = pis.Setup(row["model"], row["hardware"], dtype=row["dtype"])
    batch, prompt = int(row["batch"]), int(row["prompt"])
    first = pis.Workload.prefill(batch, max(prompt, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if row["phase"] == "request":
            new = int(row["new_tokens"])
            parts = [(first, 1.0), (pis.Workload.decode(batch, prompt + new // 2), float(new))]
            found = [(setup.speedup(method, workload), times) for workload, times in parts]
            dense = sum(times * one.dense.latency for one, times in found)
            sides = [
                sum(times * one.dense.latency / value for (one, times), value in zip(found, values, strict=True))
                for values in (
                    [one.estimated for one, _ in found],
                    *zip(*(one.interval for one, _ in found), strict=True),
                )
            ]
            predicted, low, high = (float(dense / side) for side in sides)
        else:
            workload = first if row["phase"] == "prefill" else pis.Workload.decode(batch, prompt)
            result = setup.speedup(method, workload)
            predicted, (low, high) = float(result.estimated), result.interval
            if row["part"]:
                whole = predicted
                predicted = part(result, row["part"].split(","))
                low, high = low * predicted / whole, high * predicted / whole
    return Compared(row, predicted, float(low), float(high))


def part(result: pis.Speedup, roles: list[str]) -> float:
    """Return the speedup of some linear layers, or of attention with what chooses its keys."""
    fused = {"q": "qkv", "k": "qkv", "v": "qkv", "gate": "gate_up", "up": "gate_up"}
    times = []
    for side in (result.dense, result.pruned):
        names = {*roles, *(fused.get(role, role) for role in roles)}
        chosen = np.array([
            role in names or ("attention" in roles and key in CHOOSING)
            for role, key in zip(side.trace.roles, side.trace.kernel, strict=True)
        ])  # fmt: skip
        times.append(float((side.seconds * side.trace.count)[chosen].sum()))
    return times[0] / times[1]


def everything() -> tuple[list[Compared], list[dict[str, str]]]:
    """Return the rows that are compared, and those that are not, with a reason."""
    compared, left = [], []
    for row in rows():
        if row["reason"]:
            left.append(row)
            continue
        try:
            compared.append(compare(row))
        except PruninfersimError as error:
            left.append(row | {"reason": str(error).partition(".")[0]})
    return compared, left


def summary(name: str, of: list[Compared]) -> str:
    """Return a row of the table of errors."""
    errors = np.array([abs(one.error) for one in of])
    bias = np.median([one.error for one in of])
    inside = np.mean([one.inside for one in of])
    return f"| {name} | {len(of)} | {np.median(errors):.1%} | {bias:+.1%} | {inside:.0%} |"


def page(found: tuple[list[Compared], list[dict[str, str]]] | None = None) -> str:
    """Return the page."""
    compared, left = everything() if found is None else found
    families = dict.fromkeys(one.row["family"] for one in compared)
    methods = {one.row["method"] for one in compared}
    lines = [
        LEAD,
        f"{len(compared)} of {len(compared) + len(left)} rows can be compared, of {len(methods)} methods.",
        "",
        "## Error by family",
        "",
        "| family | rows | median absolute error | median error | inside the 90 % interval |",
        "|---|---|---|---|---|",
        *(summary(family, [one for one in compared if one.row["family"] == family]) for family in families),
        summary("**high confidence**", [one for one in compared if one.row["confidence"] == "high"]),
        summary("**all**", compared),
        "",
        "## Every row",
        "",
        "| method | model | GPU | phase | batch | tokens | measured | predicted | interval | inside |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in compared:
        row = one.row
        what = f"{row['phase']} {row['part']}".strip()
        lines.append(
            f"| [{row['method']}]({row['source']}) | {row['model']} | {row['hardware']} | {what} | {row['batch']} | "
            f"{row['prompt']} | {float(row['measured']):.2f} | {one.predicted:.2f} | {one.low:.2f} to {one.high:.2f} | "
            f"{'yes' if one.inside else 'no'} |"
        )
    reasons: dict[str, list[dict[str, str]]] = {}
    for row in left:
        reasons.setdefault(row["reason"], []).append(row)
    lines += [
        "",
        "## What cannot be compared, and why",
        "",
        "| reason | rows | of high confidence | methods |",
        "|---|---|---|---|",
    ]
    for reason, of in sorted(reasons.items(), key=lambda item: -len(item[1])):
        named = list(dict.fromkeys(row["method"] for row in of))
        shown = ", ".join(named[:6]) + (f" and {len(named) - 6} more" if len(named) > 6 else "")
        high = sum(row["confidence"] == "high" for row in of)
        lines.append(f"| {reason} | {len(of)} | {high} | {shown} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
