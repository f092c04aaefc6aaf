"""Tables of docs/accuracy.md on whole steps and on speedups that others have published."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from accuracy_kernels import Data, markdown, percent

import pruninfersim as pis
from pruninfersim import calibration, hardware
from pruninfersim.calibration.record import Calibration
from pruninfersim.cost import Estimate
from pruninfersim.errors import ProvenanceWarning
from pruninfersim.pruning.base import LINEAR
from pruninfersim.questions.comparison import compare_estimates
from pruninfersim.trace import OpTrace

PUBLISHED = Path(__file__).with_name("published_steps.csv")
GPUS = ("a100-sxm-80gb", "h100-sxm")
#: Qwen3-8B is there because the tables hold every matrix of its layers.
MODELS = ("llama-2-7b", "llama-3.1-8b", "qwen3-8b")
#: Phase, batch, prompt tokens or context.
WORKLOADS = (
    *(
        ("prefill", batch, tokens)
        for batch, tokens in ((1, 1024), (1, 2048), (1, 4096), (1, 8192), (4, 2048), (8, 1024))
    ),
    *(("decode", batch, context) for batch in (1, 8, 32) for context in (1024, 4096, 8192)),
)
#: Weight shapes (n, k) and heads of these models: left out of the fits that predict them.
MATRICES = ((4096, 4096), (1024, 4096), (12288, 4096), (4096, 12288))
HEADS = 32
GEMM_KERNELS = ("gemm", "lm_head")
ATTENTION = ("attention_prefill", "attention_decode")
#: Ops that a published scope sums up.
SCOPES = {"linear": LINEAR, "attention": ("attention", "block_score", "block_index")}


def unseen_stack(data: Data, gpu: str, known: dict[tuple[str, str, str], Calibration]) -> pis.CostModel:
    """Return the vendor stack with kernels that have not seen the shapes of these models."""
    stack = pis.stacks.get("vendor", hardware.get(gpu))
    for kind in ("gemm", *ATTENTION):
        rows = data.of(kind, gpu)
        if kind == "gemm":
            test = np.any([(rows["n"] == n) & (rows["k"] == k) for n, k in MATRICES], axis=0)
        else:
            test = (rows["heads"] == HEADS).to_numpy()
        start = known[kind, "bf16", gpu].kernel
        kernel = calibration.fit_kernel(kind, rows[~test].reset_index(drop=True), gpu, start=start)
        for key in GEMM_KERNELS if kind == "gemm" else (kind,):
            priced = stack.kernels[key]
            stack = stack.with_kernel(key, replace(priced, model=kernel))
    return stack


def measured_seconds(data: Data, gpu: str, ops: OpTrace) -> np.ndarray:
    """Time of one run of each op where a table holds exactly its shape, else nan; campaigns averaged [s]."""
    gemm = data.of("gemm", gpu).groupby(["m", "n", "k"])["latency_us"].apply(lambda v: np.exp(np.log(v).mean()))
    columns = ["batch", "heads", "kv_heads", "q_len", "kv_len"]
    attention = {kind: data.of(kind, gpu).groupby(columns)["latency_us"].median() for kind in ATTENTION}
    out = np.full(len(ops), np.nan)
    for i, key in enumerate(ops.kernel):
        if key in GEMM_KERNELS:
            out[i] = gemm.get((ops.m[i], ops.n[i], ops.k[i]), np.nan)
        elif key in ATTENTION:
            batch = ops.sequences[i]
            shape = (batch, ops.batch[i] / batch, ops.b_batch[i] / batch, ops.m[i], ops.n[i])
            out[i] = attention[key].get(shape, np.nan)
    return out * 1e-6


def steps(data: Data, known: dict[tuple[str, str, str], Calibration]) -> pd.DataFrame:
    """Compare the sum of measured kernels with predictions for the same ops, step by step."""
    lines = []
    for gpu in GPUS:
        stack, card = unseen_stack(data, gpu, known), hardware.get(gpu)
        for model in MODELS:
            for phase, batch, context in WORKLOADS:
                step = stack.predict(pis.trace(pis.models.get(model), pis.Workload.of(phase, batch, context)))
                ops = step.trace
                measured = measured_seconds(data, gpu, ops)
                index = np.flatnonzero(np.isfinite(measured))
                replayed = [
                    float(stack.of(ops)[i].model.latency(ops.select([i]), card, cache="replayed")[0]) for i in index
                ]
                count = ops.count[index]
                lines.append(
                    {
                        "model": model,
                        "GPU": gpu,
                        "phase": phase,
                        "batch": batch,
                        "tokens": context,
                        "share": float(step.seconds[index].sum() / step.seconds.sum()),
                        "measured": float((count * measured[index]).sum()),
                        "replayed": float((count * replayed).sum()),
                        "cold": float(step.seconds[index].sum()),
                        "step": float(step.latency),
                        "attention": bool(np.isin(np.array(ops.kernel)[index], ATTENTION).any()),
                    }
                )
    return pd.DataFrame(lines)


def steps_table(lines: pd.DataFrame) -> str:
    """Markdown of those `steps` of which attention or more than half was measured."""
    lines = lines[lines["attention"] | (lines["share"] > 0.5)]
    shown = lines[["model", "GPU", "phase", "batch", "tokens"]].copy()
    shown["share of the step that was measured [%]"] = [percent(value, 0) for value in lines["share"]]
    shown["attention measured"] = ["yes" if value else "no" for value in lines["attention"]]
    for column, name in (("measured", "sum of measured"), ("replayed", "predicted, as replayed"), ("cold", "cold")):
        shown[f"{name} [ms]"] = [f"{1e3 * value:.2f}" for value in lines[column]]
    shown["error, as replayed [%]"] = [f"{100 * e:+.1f}" for e in lines["replayed"] / lines["measured"] - 1]
    return markdown(shown)


def published() -> pd.DataFrame:
    """Predict every published row; times in ms, speedups with the interval."""
    rows = pd.read_csv(PUBLISHED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ProvenanceWarning)
        results = [_predict(row) for row in rows.itertuples()]
    return pd.concat([rows, pd.DataFrame(results)], axis=1)


def _predict(row: object) -> dict[str, float]:
    """Price both sides of a published row."""
    if row.scope == "gemm":
        return _predict_gemm(row)
    model = pis.models.get(row.model)
    dense = pis.trace(model, pis.Workload.of(row.phase, row.batch, row.context), dtype=row.dtype)
    before = _scoped(dense, row)
    per_layer = 1.0 if row.scope == "step" else float(model.num_layers)
    out = {
        "dense_predicted": 1e3 * float(before.latency) / per_layer,
        "dense_roofline": 1e3 * float(before.roofline) / per_layer,
    }
    if row.family == "dense":
        return out
    options = {} if np.isnan(row.block_size) else {"block_size": row.block_size}
    result = compare_estimates(before, _scoped(dense.prune(pis.pruning.get(row.family, row.sparsity, **options)), row))
    low, high = result.interval
    claim = 1.0 / (1.0 - row.sparsity)
    return out | {"claim": claim, "ideal": result.ideal, "estimated": result.estimated, "low": low, "high": high}


def _scoped(ops: OpTrace, row: object) -> Estimate:
    """Price the ops that were measured."""
    if row.scope != "step":
        ops = ops.select(ops.mask(names=SCOPES.get(row.scope, (row.scope,))))
    return pis.estimate(ops, hardware=row.gpu)


def _predict_gemm(row: object) -> dict[str, float]:
    """Price one matrix, dense and 2:4."""
    shape = {"m": row.batch * row.context, "n": row.n, "k": row.k, "hardware": row.gpu, "dtype": row.dtype}
    times = {
        (kernel, stack): float(pis.gemm_latency(**shape, kernel=kernel, stack=stack))
        for kernel in ("dense", "2:4")
        for stack in ("vendor", "ideal")
    }
    return {
        "dense_predicted": 1e3 * times["dense", "vendor"],
        "dense_roofline": 1e3 * times["dense", "ideal"],
        "claim": 1.0 / (1.0 - row.sparsity),
        "ideal": times["dense", "ideal"] / times["2:4", "ideal"],
        "estimated": times["dense", "vendor"] / times["2:4", "vendor"],
    }


def error(predicted: pd.Series, measured: pd.Series) -> float:
    """Mean of abs(predicted / measured - 1)."""
    return float((predicted / measured - 1.0).abs().mean())


def families_table(rows: pd.DataFrame) -> str:
    """Table of speedup errors per family."""
    lines = []
    for family in pis.pruning.METHODS:
        part = rows[rows["family"] == family]
        whole = part[part["low"].notna()]
        inside = (whole["speedup"] >= whole["low"]) & (whole["speedup"] <= whole["high"])
        line: dict[str, object] = {"family": family, "rows": len(part)}
        for column, name in (("claim", "1/(1-s)"), ("ideal", "ideal"), ("estimated", "estimated")):
            line[f"{name} [%]"] = percent(error(part[column], part["speedup"]) if len(part) else np.nan)
        bias = np.expm1(np.log(part["estimated"] / part["speedup"]).mean()) if len(part) else np.nan
        lines.append(
            line | {"bias of estimated [%]": percent(bias), "inside the interval": f"{inside.sum()} of {len(whole)}"}
        )
    return markdown(pd.DataFrame(lines))


def groups_table(rows: pd.DataFrame) -> str:
    """Table of published and predicted speedups, one line per source, scope and GPU."""
    lines = []
    pruned = rows[rows["family"] != "dense"]
    for keys, part in pruned.groupby(["family", "source", "model", "gpu", "scope", "phase"], sort=False):
        family, source, model, gpu, scope, phase = keys
        lines.append(
            {
                "family": family,
                "what": f"{model}, {gpu}, {scope}, {phase}",
                "s": _range(part["sparsity"]),
                "rows": len(part),
                "published": _range(part["speedup"]),
                "estimated": _range(part["estimated"]),
                "error [%]": percent(error(part["estimated"], part["speedup"])),
                "source": source,
                "remark": part["note"].iloc[0],
            }
        )
    return markdown(pd.DataFrame(lines))


def _range(values: pd.Series) -> str:
    low, high = values.min(), values.max()
    return f"{low:.3g}" if np.isclose(low, high) else f"{low:.3g} to {high:.3g}"


def dense_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the published absolute times of dense models, each once."""
    keys = ["source", "model", "gpu", "scope", "phase", "batch", "context", "n", "k"]
    return rows[rows["dense_ms"].notna()].drop_duplicates(keys)


def dense_table(rows: pd.DataFrame) -> str:
    """Table of published and predicted dense times."""
    lines = [
        {
            "what": f"{row.model}, {row.scope}",
            "GPU": row.gpu,
            "phase": row.phase,
            "batch": row.batch,
            "tokens": row.context,
            "published [ms]": f"{row.dense_ms:.4g}",
            "predicted [ms]": f"{row.dense_predicted:.4g}",
            "roofline [ms]": f"{row.dense_roofline:.4g}",
            "predicted / published - 1 [%]": f"{100 * (row.dense_predicted / row.dense_ms - 1):+.0f}",
            "source": row.source,
        }
        for row in dense_rows(rows).itertuples()
    ]
    return markdown(pd.DataFrame(lines))
