"""Whole models of the reference paper under the stack ``vendor``: run ``python validation/accuracy_paper_models.py``.

The part of its grid that is published (Llama-3.1-8B, RTX PRO 6000, half of the weights, arXiv 2606.09080) against a
stack to which none of it was fitted. The paper ran research kernels and eager elementwise work, so that agreement is
not to be expected where a family has kernels of its own there; where it runs on library kernels, it is.
"""

from __future__ import annotations

import sys
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
from accuracy_kernels import markdown, percent

import pruninfersim as pis
from pruninfersim import hardware, stacks
from pruninfersim.calibration.least_squares import mape
from pruninfersim.errors import ProvenanceWarning
from pruninfersim.reproduce import passes

MODEL, GPU = "llama-3.1-8b", "rtx-pro-6000-server"
#: What Fig. 6 of the paper says of one layer at 32k tokens: (dense, 2:4), prefill [ms] and decode [us].
FIG6 = {
    "prefill": {"GEMM": (36.1, 29.8), "elementwise and transposes": (6.5, 8.8), "attention": (24.6, 24.6)},
    "decode": {"GEMM": (330.0, 255.0), "elementwise and transposes": (19.5, 25.0), "attention": (90.0, 94.0)},
}
UNIT = {"prefill": (1e3, "ms"), "decode": (1e6, "us")}


def whole_models(stack: str = "vendor", gpu: str = GPU) -> pd.DataFrame:
    """Return the published rows of the grid with the predictions of a stack.

    Returns
    -------
    DataFrame
        family, phase, batch, context, sparsity; speedup as published; estimated_speedup, estimated_low and
        estimated_high; error [%]; whether the interval holds the published one.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ProvenanceWarning)
        return passes.beside_grid(passes.predicted(MODEL, gpu, stack=stack, sparsities=[0.5]))


def coverage(rows: pd.DataFrame) -> str:
    """Say how many published speedups lie inside their interval."""
    return f"{int(rows['inside'].sum())} of {len(rows)} inside the 90 % interval"


def models_table(rows: pd.DataFrame) -> str:
    """Return the table of families and phases: published and predicted speedups, error, bias, coverage."""
    lines = []
    for (family, phase), part in rows.groupby(["family", "phase"], sort=False):
        ratio = np.log(part["estimated_speedup"] / part["speedup"]).to_numpy()
        lines.append(
            {
                "family": family,
                "phase": phase,
                "published": ", ".join(f"{x:.2f}" for x in part["speedup"]),
                "vendor": ", ".join(f"{x:.2f}" for x in part["estimated_speedup"]),
                "error [%]": percent(mape(ratio)),
                "bias [%]": percent(float(np.expm1(ratio.mean()))),
                "inside": f"{int(part['inside'].sum())} of {len(part)}",
            }
        )
    return markdown(pd.DataFrame(lines))


def terms_2of4(gpu: str = GPU, *, fused: bool = True) -> pd.DataFrame:
    """Return what one layer takes at 32k tokens, dense and 2:4, measured (Fig. 6) and predicted, by part.

    Parameters
    ----------
    gpu : str
    fused : bool
        Whether q, k, v are one GEMM and gate, up another, as the stack runs them; apart, as the paper did.
    """
    stack = stacks.get("vendor", hardware.get(gpu))
    if not fused:
        stack = replace(stack, lower=_as_it_is)
    lines = []
    for phase, measured in FIG6.items():
        work = pis.Workload.prefill(1, 32768) if phase == "prefill" else pis.Workload.decode(batch=1, context=32768)
        dense = pis.trace(MODEL, work)
        pruned = dense.prune(pis.pruning.SemiStructured(0.5))
        scale, unit = UNIT[phase]
        frames = [stack.predict(ops).to_frame() for ops in (dense, pruned)]
        for part, (before, after) in measured.items():
            ours = [scale / 32 * float(frame.loc[_part(frame) == part, "seconds"].sum()) for frame in frames]
            line: dict[str, object] = {"phase": phase, "part": part, "unit": unit}
            line |= {"dense, measured": before, "2:4, measured": after, "ratio, measured": before / after}
            lines.append(line | {"dense, vendor": ours[0], "2:4, vendor": ours[1], "ratio, vendor": ours[0] / ours[1]})
    return pd.DataFrame(lines)


def _as_it_is(ops: pis.OpTrace) -> pis.OpTrace:
    return ops


def _part(frame: pd.DataFrame) -> pd.Series:
    """Name the part of a layer that each op belongs to; nothing for what is outside of the layers."""
    key = frame["kernel"]
    part = pd.Series("elementwise and transposes", index=frame.index)
    part[key.isin(["gemm", "gemm_2of4"])] = "GEMM"
    part[key.str.startswith("attention")] = "attention"
    part[frame["block"].isin(["embedding", "head"])] = ""
    return part


def terms_table(terms: pd.DataFrame) -> str:
    """Return the table of `terms_2of4`."""
    number = {name: terms[name].map("{:.3g}".format) for name in terms.columns[3:]}
    return markdown(terms.assign(**number))


def section() -> str:
    """Return the section of the accuracy page."""
    rows, apart, fused = whole_models(), terms_2of4(fused=False), terms_2of4()
    loop, ratio = (
        {
            phase: [
                terms.loc[(terms["phase"] == phase) & (terms["part"] == "GEMM"), name].item()
                for terms in (apart, fused)
            ]
            for phase in FIG6
        }
        for name in ("2:4, vendor", "ratio, vendor")
    )
    measured = {phase: FIG6[phase]["GEMM"] for phase in FIG6}
    return "\n".join(
        [
            "## Whole models of the reference paper\n",
            "Llama-3.1-8B on an RTX PRO 6000 at half of the weights (the published part of the grid of arXiv",
            "2606.09080), under the stack `vendor`, which has seen none of it. Workloads: batch 1 at 1k and at 32k,",
            f"batch 32 at 1k. {coverage(rows)}. The paper ran kernels of its own for dynamic depth and block-sparse",
            "attention, and did not fuse elementwise work.\n",
            models_table(rows),
            "2:4 is too fast here. By part of a layer, at 32k tokens, against Fig. 6 of the paper; projections",
            "apart, as the paper ran them:\n",
            terms_table(apart),
            "And with q, k, v in one GEMM and gate, up in another, as this stack runs them:\n",
            terms_table(fused),
            "In decode a 2:4 GEMM of the paper takes its loop over k, which no CTA splits (its Table 7: 22 us",
            "for k of 4096, 71 us for 14336, at any number of tokens up to 64), or the read of its weights, if",
            "that is longer. Four loops of 22 us, twice the 44 us in which 66 MB stream, and one loop of 71 us",
            f"are 247 us, where {measured['decode'][1]:.0f} were measured. On cards of that kind this stack",
            "does not split k by default either, with the k step of the dense GEMMs of the card:",
            f"{loop['decode'][0]:.0f} us. Fused, three of the loops are gone: {loop['decode'][1]:.0f} us. So",
            "most of the gap in decode is that the paper did not fuse; the rest are steps that it takes longer",
            "for, launches and transposes.\n",
            f"In prefill the ratio of the GEMMs is predicted as {ratio['prefill'][0]:.2f} apart, where",
            f"{measured['prefill'][0] / measured['prefill'][1]:.2f} was measured, and as",
            f"{ratio['prefill'][1]:.2f} fused: gate and up in one take more compressed weights (132 MB) than L2",
            "holds, and the kernel reads them again for every row of m tiles. Transposes and unfused",
            "elementwise work, which this stack does not have, take another tenth. That gap is reported, not",
            "fitted away.\n",
            "The loop is not what makes 2:4 slow at few tokens everywhere. On a B200 (arXiv 2606.10445, up to",
            "512 tokens) the GEMM with the longest one, k of 25600, is faster than dense, while q, k, v and o,",
            "which have the fewest weights, are slower: a constant per GEMM rather, of which no timing is at",
            "hand, so that none is charged. A DRAM rate of the sparse kernel of its own was tried, too: it is",
            "fitted as 0.8 to 1.2 of the dense one from card to card, and shapes that were left out gain",
            "nothing.\n",
        ]
    )


def main() -> int:
    """Print the section and every row."""
    print(section())
    print(whole_models().to_string())
    return 0


if __name__ == "__main__":
    sys.exit(main())
