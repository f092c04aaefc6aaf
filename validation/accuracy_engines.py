"""Engines against what users measure: steps, requests and closed loops, with and without each term.

The rows (``e2e/e2e_visible.csv.gz``) are public measurements of whole engines; they are read where somebody has them,
and not shipped. Constants of the engines come from Llama-2-7B, Llama-3-8B, Llama-3.2-1B and Qwen2.5-7B, in part from
the rows judged here: errors on other models and cards are larger.
"""

from __future__ import annotations

import sys
import warnings
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import nnls

import pruninfersim as pis
from pruninfersim.errors import ProvenanceWarning
from pruninfersim.questions.calibrate_engine import calibrate_engine
from pruninfersim.questions.request import exact_steps
from pruninfersim.stacks import Engine, engine

FILE = Path("e2e") / "e2e_visible.csv.gz"
LOGS = Path("e2e") / "kv_capacity_visible.csv.gz"
#: How the file calls models, GPUs and engines.
MODELS = {
    "Llama3.2-1B": "llama-3.2-1b", "Llama-3.2-1B": "llama-3.2-1b", "Llama-3.2-3B": "llama-3.2-3b",
    "Qwen2.5-7B": "qwen2.5-7b", "meta-llama/Llama-2-7b-hf": "llama-2-7b", "Llama-2-7B": "llama-2-7b",
    "LLaMA 7B": "llama-2-7b", "meta-llama/Meta-Llama-3-8B": "llama-3-8b", "llama-3.1-8b": "llama-3.1-8b",
    "meta-llama/Llama-3.1-8B-Instruct": "llama-3.1-8b",
}  # fmt: skip
GPUS = {
    "RTX4090": "rtx-4090", "H100-SXM5-80GB": "h100-sxm", "A100-SXM-40GB": "a100-sxm-40gb", "B200": "b200-sxm",
    "H100-PCIe-80GB": "h100-pcie", "A100-PCIe-80GB": "a100-pcie-80gb", "L4": "l4", "A100-SXM4-80GB": "a100-sxm-80gb",
}  # fmt: skip
ENGINES = {
    ("vLLM", "0.4 era"): "vllm-0.5",
    ("vLLM", "0.19.0"): "vllm",
    ("TensorRT-LLM", "0.9 era"): "tensorrt-llm-0.9",
    ("TensorRT-LLM", "1.0.0rc3"): "tensorrt-llm",
    ("transformers-eager", "torch 2.8"): "transformers",
    ("gpt-fast", "torch.compile, CUDA graph"): "torch-compile",
}
Row = Any


def rows(directory: Path) -> pd.DataFrame:
    """Return the comparable rows whose model, GPU and engine are known here."""
    frame = pd.read_csv(directory / FILE)
    names = zip(frame["engine"], frame["engine_version"], strict=True)
    frame["stack"] = [ENGINES.get(pair, "vllm" if pair[1].startswith("V1, SlideSparse") else None) for pair in names]
    frame["config"], frame["card"] = frame["model"].map(MODELS), frame["gpu"].map(GPUS)
    return frame[frame["comparable"] & frame[["stack", "config", "card"]].notna().all(axis=1)].reset_index(drop=True)


@lru_cache(maxsize=256)
def _setup(config: str, card: str, stack: Engine | str, dtype: str) -> pis.Setup:
    return pis.Setup(config, card, stack, dtype)


def predicted(row: Row, stack: Engine | str) -> tuple[float, float, float]:
    """Return the predicted time of a row, and its interval [s]."""
    setup = _setup(row.config, row.card, stack, row.dtype)
    batch = max(round(row.batch), 1)
    if row.phase in ("request", "tpot", "ttft"):
        answer = pis.request(
            model=setup.model, hardware=setup.hardware, stack=setup.stack, dtype=row.dtype, prompt=int(row.input_len),
            new_tokens=int(row.output_len), **({"clients": batch} if row.phase == "tpot" else {"batch": batch}),
        )  # fmt: skip
        part = "total" if row.phase == "request" else row.phase
        ends = answer.interval if part == "total" else getattr(answer, f"{part}_interval")
        return getattr(answer, part), *ends
    dense = setup.trace(work(row))
    step = setup.estimate(dense.prune(*method(row)))
    return step.latency, *step.interval


def work(row: Row) -> pis.Workload:
    """Return the step that a row measured."""
    batch = max(round(row.batch), 1)
    if row.phase == "step_prefill":
        return pis.Workload.prefill(batch=batch, tokens=int(row.context))
    return pis.Workload.decode(batch=batch, context=200 if np.isnan(row.context) else max(round(row.context), 1))


def method(row: Row) -> list[Any]:
    """Return the pruning of a row."""
    if row.method == "2:4":
        return [pis.pruning.SemiStructured(0.5)]
    if row.method.startswith("static_nk"):
        return [pis.pruning.StaticWidth(pis.pruning.PerBlock(mlp=float(row.sparsity)))]
    return []


def judged(directory: Path) -> pd.DataFrame:
    """Return one row per measurement: predicted times with each set of terms, and whether the interval holds it."""
    frame = rows(directory)
    out = []
    for row in frame.itertuples():
        known: Engine = pis.stacks.ENGINES[row.stack]
        if row.stack == "transformers":
            known = known.on(pis.stacks.HOSTS["slow"])
        terms = {
            "kernels": "vendor",
            "no step": replace(known, step=0.0),
            "no sequences": replace(known, sequence=0.0),
            "all": known,
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ProvenanceWarning)
            made = {name: predicted(row, stack) for name, stack in terms.items()}
        numbers = {
            f"{name} {part}": value for name, times in made.items() for part, value in zip(PARTS, times, strict=True)
        }
        out.append(numbers)
    return frame.join(pd.DataFrame(out))


PARTS = ("seconds", "low", "high")


def engines_table(frame: pd.DataFrame) -> list[tuple[str, ...]]:
    """Return one line per engine, phase and precision: errors with and without terms, and coverage."""
    lines = []
    kinds = frame["dtype"].where(frame["dtype"].isin(["int8", "fp8"]), "16 bit")
    for (stack, phase, kind), part in frame.groupby(["stack", "phase", kinds]):
        error = {
            name: (part[f"{name} seconds"] / part["seconds"] - 1.0)
            for name in ("kernels", "no step", "no sequences", "all")
        }
        inside = {
            name: ((part["seconds"] >= part[f"{name} low"]) & (part["seconds"] <= part[f"{name} high"])).mean()
            for name in ("kernels", "all")
        }
        lines.append(
            (
                str(stack),
                f"{phase.replace('_', ' ')}, {kind}",
                str(len(part)),
                *(f"{100 * error[name].abs().mean():.1f}" for name in error),
                f"{100 * error['all'].mean():+.1f}",
                f"{100 * inside['kernels']:.0f}",
                f"{100 * inside['all']:.0f}",
            )
        )
    return lines


HEADER = (
    "engine",
    "rows",
    "n",
    "kernels only",
    "no step",
    "no sequences",
    "all terms",
    "bias",
    "inside, kernels",
    "inside",
)


def held_out(frame: pd.DataFrame) -> list[tuple[str, ...]]:
    """Return the errors with time per step and sequence fitted again, without one model or one card at a time."""
    lines = []
    for stack, phase in (("vllm-0.5", "request"), ("tensorrt-llm-0.9", "request"), ("vllm", "step_decode")):
        wanted = (frame["stack"] == stack) & (frame["phase"] == phase) & (frame["method"] == "dense")
        part = frame[wanted & ((stack != "vllm") | frame["dtype"].isin(["int8", "fp8"]))].reset_index(drop=True)
        bare = replace(pis.stacks.ENGINES[stack], step=0.0, sequence=0.0)
        alone = np.array([predicted(row, bare)[0] for row in part.itertuples()]) / part["seconds"].to_numpy()
        steps = np.where(part["phase"] == "request", part["output_len"].fillna(1.0), 1.0)
        terms = np.stack([steps, steps * part["batch"].round()], axis=1) / part["seconds"].to_numpy()[:, None]
        known = pis.stacks.ENGINES[stack]
        errors = [np.abs(1.0 - alone), np.abs(terms @ [known.step, known.sequence] + alone - 1.0)]
        for key in ("config", "card"):
            error = np.empty(len(part))
            for value in part[key].unique():
                out = part[key] == value
                fitted = nnls(terms[~out], 1.0 - alone[~out])[0]
                error[out] = np.abs(terms[out] @ fitted + alone[out] - 1.0)
            errors.append(error)
        lines.append((stack, str(len(part)), *(f"{100 * each.mean():.1f}" for each in errors)))
    return lines


def sparse_speedups(frame: pd.DataFrame, stack: Engine | str = "vllm") -> pd.DataFrame:
    """Return measured and predicted 2:4 speedups of vLLM: dense and 2:4 twins of one step."""
    key = ["card", "config", "phase", "dtype", "batch", "context"]
    of = frame[frame["engine_version"].str.contains("cuBLASLt|cuSPARSELt")]
    pairs = of[of["method"] == "dense"].merge(of[of["method"] == "2:4"], on=key, suffixes=("", "_sparse"))
    out = []
    for row in pairs.itertuples():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ProvenanceWarning)
            answer = _setup(row.config, row.card, stack, row.dtype).speedup(pis.pruning.SemiStructured(0.5), work(row))
        out.append((answer.estimated, *answer.interval))
    made = pd.DataFrame(out, columns=["predicted", "low", "high"])
    return pairs[key].assign(measured=pairs["seconds"] / pairs["seconds_sparse"]).join(made)


def narrower_mlps(frame: pd.DataFrame, stack: Engine | str) -> pd.DataFrame:
    """Return measured and predicted speedups of narrower MLPs in eager transformers."""
    eager = frame[frame["stack"] == "transformers"]
    key = ["config", "card", "batch", "output_len"]
    pairs = eager[eager["method"] == "dense"].merge(eager[eager["method"] != "dense"], on=key, suffixes=("", "_pruned"))
    out = []
    for row in pairs.itertuples():
        pruned = pis.pruning.StaticWidth(pis.pruning.PerBlock(mlp=float(row.sparsity_pruned)))
        answer = _setup(row.config, row.card, stack, row.dtype).speedup(pruned, work(row))
        out.append((answer.estimated, *answer.interval))
    made = pd.DataFrame(out, columns=["predicted", "low", "high"])
    return pairs[key].assign(measured=pairs["seconds"] / pairs["seconds_pruned"]).join(made)


def exact_sum() -> float:
    """Return the worst error of one step at the middle context against the sum over all contexts [1]."""
    worst = 0.0
    for model, card in (("llama-3.1-8b", "h100-sxm"), ("llama-2-7b", "a100-sxm-80gb"), ("qwen3-4b", "rtx-4090")):
        for batch in (1, 8, 64):
            for prompt, new in ((128, 128), (1024, 1024), (128, 4096)):
                setup, work_ = pis.Setup(model, card, "vllm"), pis.Workload.request(batch, prompt, new)
                one = float(work_.steps) * float(np.asarray(setup.estimate(work_.middle).latency))
                worst = max(worst, abs(one / exact_steps(setup, work_) - 1.0))
    return worst


def reached(directory: Path, frame: pd.DataFrame) -> list[tuple[str, ...]]:
    """Return the aims, and what was reached of each on the visible rows."""

    def shares(part: pd.DataFrame) -> tuple[str, str]:
        error = (part["all seconds"] / part["seconds"] - 1.0).abs().mean()
        inside = ((part["seconds"] >= part["all low"]) & (part["seconds"] <= part["all high"])).mean()
        return f"{100 * error:.1f} %", f"{100 * inside:.0f} %"

    def ratios(part: pd.DataFrame) -> tuple[str, str]:
        error = (part["predicted"] / part["measured"] - 1.0).abs().mean()
        return f"{100 * error:.1f} %", f"{100 * part['measured'].between(part['low'], part['high']).mean():.0f} %"

    eager = frame[(frame["stack"] == "transformers") & (frame["method"] == "dense")]
    first = eager.iloc[-1]
    host = calibrate_engine(
        "transformers", seconds=first["seconds"], workload=work(first), model=first["config"], hardware=first["card"]
    )
    known, unknown = narrower_mlps(frame, host), narrower_mlps(frame, engine("transformers"))
    sparse = sparse_speedups(frame)
    narrow = frame[(frame["stack"] == "vllm") & (frame["phase"] == "step_decode")]
    logs = kv_logs(directory)
    return [
        ("eager, one constant per host: speedup of narrower MLPs", "4 %", *ratios(known)),
        ("eager, host unknown: the same", "85 % inside", *ratios(unknown)),
        ("vLLM <= 0.5, request", "9 %, 80 % inside", *shares(frame[frame["stack"] == "vllm-0.5"])),
        ("TensorRT-LLM 0.9, request", "10 %, 80 % inside", *shares(frame[frame["stack"] == "tensorrt-llm-0.9"])),
        ("vLLM (V1), decode step, host unknown", "20 %, 75 % inside", *shares(narrow)),
        *(
            (f"2:4 in vLLM, speedup of {word}", f"{aim} %, 75 % inside", *ratios(sparse[sparse["phase"] == phase]))
            for word, phase, aim in (("decode", "step_decode", 8), ("prefill", "step_prefill", 9))
        ),
        ("TensorRT-LLM >= 1.0, TPOT, 16 bit", "5 %", *shares(frame[frame["stack"] == "tensorrt-llm"])),
        ("request against the exact sum, worst", "1 %", f"{100 * exact_sum():.2f} %", ""),
        ("KV tokens of start-up logs, mean", "8 %", f"{100 * logs.abs().mean():.1f} %", f"{len(logs)} log"),
    ]


def kv_logs(directory: Path) -> pd.Series:
    """Return predicted over logged KV tokens, minus 1."""
    out = {}
    for row in pd.read_csv(directory / LOGS).itertuples():
        room = pis.capacity(
            stack="vllm", memory=row.total_gib * 2**30, memory_share=row.utilisation,
            weight_bytes=row.parameters_1e9 * 2e9, layers=row.layers, kv_heads=row.kv_heads, head_dim=row.head_dim,
            kv_bytes_per_element=row.kv_bytes, hidden_size=row.hidden, intermediate_size=row.intermediate,
            vocab_size=row.vocab, max_batched_tokens=row.max_batched_tokens, max_sequences=row.max_num_seqs,
        )  # fmt: skip
        out[row.case] = room.kv_tokens / row.kv_tokens - 1.0
    return pd.Series(out)


TEXT = """\
Engines add their host, their own time between steps and their launches to the kernels; each has its own band. Errors
are mean absolute errors of times in percent, *inside* the share of measurements in the 90 % interval. Constants were
set on these rows or on others of the same engines: other models, cards and versions are less well known. A prefill of
vLLM is a step of an offline run, whose admission of requests (24 ms, a third to twice that by host) is most of it below
a few thousand tokens. Sources:
argonne-lcf/LLM-Inference-Bench (BSD-3-Clause), bcacdwk/vllmbench and ai-dynamo/aiconfigurator (Apache-2.0),
casys-kaist/LLMServingSim and peremartra/llama-glu-expansion-pruning (MIT), pytorch-labs/gpt-fast (BSD-3-Clause).
"""


HELD_OUT = """\
The two constants of an engine, fitted again without the model, or without the card, that is then predicted (8-bit steps
of vLLM): what they are worth elsewhere.
"""


def section(directory: Path) -> str:
    """Return the section of the accuracy page on engines, or what it lacks."""
    from accuracy_kernels import markdown

    if not (directory / FILE).exists():  # the folder of kernel timings lies beside that of engines
        directory = directory.parent
    if not (directory / FILE).exists():
        return "Not generated yet: needs the measured steps of engines.\n"
    frame = judged(directory)
    goals = markdown(pd.DataFrame(reached(directory, frame), columns=["row", "aim", "reached", "inside"]))
    table = markdown(pd.DataFrame(engines_table(frame), columns=list(HEADER)))
    names = ["engine, dense", "n", "no own time", "as shipped", "without the model", "without the card"]
    left = markdown(pd.DataFrame(held_out(frame), columns=names))
    return "\n".join([TEXT, table, HELD_OUT, left, "What was aimed at, on the visible rows:\n", goals])


if __name__ == "__main__":
    print(section(Path(sys.argv[1])))
