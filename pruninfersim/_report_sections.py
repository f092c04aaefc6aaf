"""What a report says: a summary in sentences, tables, figures, provenance and input, one function per section."""

from __future__ import annotations

import html
import platform
import shlex
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from pruninfersim import plots, pruning, stacks
from pruninfersim._report_page import Html, bullets, figure, paragraph, table
from pruninfersim.comparison import Speedup, compare_estimates
from pruninfersim.cost import CostModel, Estimate
from pruninfersim.errors import InvalidInputError, MissingValueError
from pruninfersim.explain import STEPS, Explanation, explain
from pruninfersim.hardware import HardwareProfile
from pruninfersim.inverse import max_speedup
from pruninfersim.memory import kv_memory, weight_memory
from pruninfersim.models import ModelConfig
from pruninfersim.sweep import sweep
from pruninfersim.trace import trace
from pruninfersim.workload import Workload

#: Sparsities of the curves; a family that cannot go so far ends earlier.
CURVE = tuple(np.round(np.linspace(0.0, 0.7, 15), 3).tolist())
#: Batches and contexts of the curves and of the ranking.
BATCHES, CONTEXTS = (1, 4, 16, 64, 256), (512, 2048, 8192, 32768)

ASSUMPTIONS = (
    "One forward pass on one GPU: no scheduler, no network, no sampling.",
    "Ops add up; kernels do not overlap.",
    "Operands stream from device memory, as in a model step; nothing is left in the L2 cache from the pass before.",
    "Causal attention counts half of the products. The KV cache is read once per KV head and never rewritten.",
    "Dynamic methods are expected values over random masks; one run at a small batch scatters around them.",
    "Intervals are 90 % prediction intervals from residuals on shapes that were not fitted. "
    "Stack 'ideal' is a definition and has none.",
    "Memory is weights as stored and KV cache; activations and the runtime are not counted.",
    "Quality is not predicted: families lose different amounts of it at the same sparsity.",
)
TERMS = (
    "estimated: dense time over pruned time of this stack, with its 90 % interval",
    "bound: dense time of this stack over the pruned model at its roofline; no kernel makes the pruned model faster",
    "ideal: both sides at their roofline",
    "FLOPs: ratio of the FLOPs",
    "claim: 1/(1-s), the usual claim for sparsity s, which bounds nothing",
)


@dataclass(frozen=True, eq=False)
class Case:
    """One workload of a report: the dense pass, and each method on it."""

    name: str
    workload: Workload
    results: dict[str, Speedup]
    left_out: dict[str, str]
    why: dict[str, Explanation]

    @property
    def dense(self) -> Estimate:
        """The dense side, which all methods share."""
        return next(iter(self.results.values())).dense

    @property
    def focus(self) -> str:
        """The method with the most left to gain from better kernels, by the ratio of bound to estimate."""
        return max(self.results, key=lambda name: float(self.results[name].bound) / float(self.results[name].estimated))


def case(
    config: ModelConfig,
    gpu: HardwareProfile,
    workload: Workload,
    names: tuple[str, ...],
    sparsity: float,
    stack: str | CostModel,
    dtype: str | None,
) -> Case:
    if workload.shape:
        raise InvalidInputError(f"give single workloads; one is a sweep of shape {workload.shape}")
    name = f"{workload.phase.capitalize()}, batch {int(workload.batch)}, context {int(workload.context)}"
    dense = trace(config, workload, dtype=dtype)
    cost_model = stacks.get(stack, gpu)
    before = cost_model.predict(dense)
    results: dict[str, Speedup] = {}
    left_out: dict[str, str] = {}
    for method in names:
        try:
            results[method] = compare_estimates(before, cost_model.predict(dense.prune(pruning.get(method, sparsity))))
        except (MissingValueError, InvalidInputError) as error:
            left_out[method] = str(error)
    if not results:
        reasons = "; ".join(f"{method}: {reason}" for method, reason in left_out.items())
        raise InvalidInputError(f"no method is left to report on. {reasons or 'Give at least one method'}")
    why = {method: explain(dense, r.pruned.trace, hardware=gpu, stack=stack) for method, r in results.items()}
    return Case(name, workload, results, left_out, why)


# --- sections ---------------------------------------------------------------------------------------------------


def summary(case: Case) -> list[Html]:
    """Return what a reader should take away, in sentences with numbers."""
    ranked = sorted(case.results, key=lambda name: -float(case.results[name].estimated))
    best, last = case.results[ranked[0]], case.results[ranked[-1]]
    parts = plots.breakdown_info(case.dense).milliseconds
    largest = max(parts, key=lambda part: parts[part])
    total = float(case.dense.latency) * 1e3
    lines = [
        f"The dense pass takes {_ms(case.dense.latency)} ({_interval(case.dense)}), "
        f"{case.workload.tokens / case.dense.latency:,.0f} tokens per second; "
        f"{parts[largest] / total:.0%} of it is {largest}.",
        f"Fastest is {ranked[0]}: {_speed(best)}, where 1/(1-s) claims {best.claim:.2f}.",
    ]
    if len(ranked) > 1:
        lines.append(f"Slowest is {ranked[-1]}: {_speed(last)}.")
    why = case.why[case.focus]
    losses = {step: float(value) for step, value in why.steps.items() if step != "claim"}
    step = max(losses, key=lambda name: losses[name])
    lines.append(
        f"What keeps {case.focus} from its claim most is '{step}' ({STEPS[step]}): {_ms(losses[step])} of its "
        f"{_ms(why.speedup.pruned.latency)}."
    )
    room = max_speedup(
        case.dense.trace, why.speedup.pruned.trace, hardware=case.dense.hardware, stack=case.dense.cost_model
    )
    lines.append(
        f"Perfect kernels for the ops that {case.focus} changes would bring it from {room.estimated:.2f} to "
        f"{room.perfect_changed:.2f}; its bound, with every kernel at its roofline, is {room.perfect_all:.2f}."
    )
    slower = [name for name in ranked if float(case.results[name].estimated) < 1.0]
    if slower:
        lines.append(f"Slower than dense: {', '.join(slower)}.")
    lines += [f"{method} is left out: {reason}" for method, reason in case.left_out.items()]
    return [Html(f"<h3>{case.name}</h3>"), bullets(lines)]


def _ms(seconds: Any) -> str:
    return f"{float(seconds) * 1e3:.3g} ms"


def _interval(step: Estimate) -> str:
    low, high = step.interval
    return f"90 % interval {float(low) * 1e3:.3g} to {float(high) * 1e3:.3g} ms"


def _speed(result: Speedup) -> str:
    low, high = result.interval
    return f"{result.estimated:.2f} times dense (90 % interval {low:.2f} to {high:.2f})"


def speedups(case: Case) -> Html:
    head = ["method", "achieved attention / mlp", "estimated", "90 % interval", "bound", "ideal", "FLOPs", "claim",
            "time [ms]", "weights [GB]", "KV cache [GB]", "fits"]  # fmt: skip
    memory = case.dense.hardware.memory_size
    sides = {"dense": case.dense} | {name: result.pruned for name, result in case.results.items()}
    rows: list[list[object]] = []
    for name, side in sides.items():
        weights, cache = float(weight_memory(side.trace)), float(kv_memory(side.trace))
        row: list[object] = [name, "", 1.0, "", float(side.latency / case.dense.roofline), 1.0, 1.0, 1.0]
        if name in case.results:
            result = case.results[name]
            reached = result.achieved[name]
            achieved = " / ".join(f"{float(reached.get(block, 0.0)):.3g}" for block in ("attention", "mlp"))
            low, high = result.interval
            four = [float(x) for x in (result.bound, result.ideal, result.flops, result.claim)]
            row = [name, achieved, float(result.estimated), Html(f"{low:.2f}&nbsp;to&nbsp;{high:.2f}"), *four]
        time = float(side.latency) * 1e3
        rows.append([*row, time, weights / 1e9, cache / 1e9, "yes" if weights + cache <= memory else "no"])
    return table(case.name, head, rows, ["", "", ".2f", "", ".2f", ".2f", ".2f", ".2f", ".3g", ".2f", ".2f"])


def figures(
    case: Case, config: ModelConfig, gpu: HardwareProfile, stack: str | CostModel, dtype: str | None, name: str
) -> list[Html]:
    """Return the figures of a workload: curves, breakdown, roofline, waterfall and ranking."""
    common: dict[str, Any] = {"models": config, "hardware": gpu, "stacks": stack, "dtype": dtype, "progress": False}
    methods, ratio = list(case.results), _ratio(case)
    work = case.workload
    by_sparsity = _joined(
        [sweep(**common, methods=m, workloads=work, sparsity=[s for s in CURVE if _allowed(m, s)]) for m in methods]
    )
    grid: dict[str, Any] = {"methods": methods, "sparsity": ratio}
    batch, context = int(work.batch), int(work.context)
    by_batch = sweep(**common, **grid, workloads=_like(work, batch=BATCHES))
    by_context = sweep(**common, **grid, workloads=_like(work, context=CONTEXTS))
    every = sweep(**common, **grid, workloads=_like(work, batch=np.array(BATCHES)[:, None], context=CONTEXTS))
    every = every.assign(workload=[f"{b:g} × {c:g}" for b, c in zip(every["batch"], every["context"], strict=True)])
    result = case.results[case.focus]
    sides = [plots.breakdown_info(case.dense, "dense")]
    sides += [plots.breakdown_info(r.pruned, method) for method, r in case.results.items()]
    band = "Bands are 90 % intervals."
    return [
        figure(
            f"{name}-sparsity", plots.curve_figure(plots.curve_info(by_sparsity)),
            f"Estimated speedup against sparsity, with the usual claim 1/(1-s). {band}",
        ),
        figure(
            f"{name}-breakdown", plots.breakdown_figure(sides),
            f"Time of each part of the pass, dense and at sparsity {ratio:.4g}.",
        ),
        figure(
            f"{name}-waterfall", plots.waterfall_figure(plots.waterfall_info(case.why[case.focus])),
            f"From the claim to the estimate of {case.focus}: what each effect adds to the time that 1/(1-s) promises.",
        ),
        _waterfalls(case),
        figure(
            f"{name}-roofline",
            plots.roofline_figure(plots.roofline_info(case.dense), plots.roofline_info(result.pruned), "Roofline"),
            f"Ops on the roofline of the GPU, dense to {case.focus}. The area of a marker is the share of the time; "
            "rates are FLOPs over the predicted time.",
        ),
        figure(
            f"{name}-batch", plots.curve_figure(plots.curve_info(by_batch, "batch"), "batch"),
            f"Estimated speedup against the batch, context {context}, sparsity {ratio:.4g}. {band}",
        ),
        figure(
            f"{name}-context", plots.curve_figure(plots.curve_info(by_context, "context"), "context"),
            f"Estimated speedup against the context, batch {batch}, sparsity {ratio:.4g}. {band}",
        ),
        figure(
            f"{name}-ranking", plots.heatmap_figure(plots.heatmap_info(every, "workload"), "batch × context [tokens]"),
            f"Estimated speedup of each method over batch × context, sparsity {ratio:.4g}.",
        ),
    ]  # fmt: skip


def _waterfalls(case: Case) -> Html:
    head = ["method", *STEPS, "estimate"]
    rows = [
        [method, *(float(value) * 1e3 for value in why.steps.values()), float(why.speedup.pruned.latency) * 1e3]
        for method, why in case.why.items()
    ]
    return table(
        "The same for every method [ms]; the steps of a row add up to its estimate",
        head,
        rows,
        ["", *["z.2f"] * (len(STEPS) + 1)],
    )


def _ratio(case: Case) -> float:
    return float(1.0 - 1.0 / np.asarray(next(iter(case.results.values())).claim))


def _allowed(method: str, sparsity: float) -> bool:
    try:
        pruning.get(method, sparsity)
    except InvalidInputError:
        return False
    return True


def _like(workload: Workload, batch: Any = None, context: Any = None) -> Workload:
    """Return workloads of the same kind with another batch or context."""
    of = Workload.of(
        workload.phase, workload.batch if batch is None else batch, workload.context if context is None else context
    )
    return Workload(of.phase, of.batch, of.query_len, of.context, logits=workload.logits, causal=workload.causal)


def _joined(frames: list[Any]) -> Any:
    import pandas as pd

    return pd.concat(frames, ignore_index=True)


def provenance(cases: list[Case]) -> list[Html]:
    """Return what the time of each class of ops rests on, and its largest share of any pass of each workload."""
    rows: dict[tuple[str, str], list[object]] = {}
    for i, case in enumerate(cases):
        for side in [case.dense, *(result.pruned for result in case.results.values())]:
            keys = list(zip(side.trace.kernel, side.trace.dtype, strict=True))
            for key in dict.fromkeys(keys):
                priced = side.cost_model.priced(*key)
                band = f"{np.expm1(priced.spread.low):+.0%} to {np.expm1(priced.spread.high):+.0%}"
                shares = [0.0] * len(cases)
                row = rows.setdefault(key, [*key, priced.provenance, *shares, band, priced.source])
                mine = np.array([other == key for other in keys])
                share = 100.0 * float(side.seconds[mine].sum() / side.seconds.sum())
                row[3 + i] = max(float(str(row[3 + i])), share)
    ordered = sorted(rows.values(), key=lambda row: -max(float(str(share)) for share in row[3 : 3 + len(cases)]))
    head = ["kernel", "dtype", "provenance", *(case.name for case in cases), "90 % band", "source"]
    caption = "Evidence per kernel, with the largest share it has of a pass, dense or pruned [%]"
    formats = ["", "", "", *[".1f"] * len(cases)]
    notes = [f"{case.name}, {name}: {note}" for case in cases for name, r in case.results.items() for note in r.notes]
    kinds = (
        "Provenance says what the time of an op rests on: roofline is a definition; calibrated a fit on timings of "
        "this GPU; measured is anchored on published measurements; extrapolated is a fit carried over from another GPU "
        "or kernel, or used outside its domain. The band is that of a single op, measured over predicted."
    )
    return [paragraph(kinds), table(caption, head, ordered, formats), *([bullets(notes)] if notes else [])]


def question(
    config: ModelConfig,
    gpu: HardwareProfile,
    names: tuple[str, ...],
    sparsity: float,
    workloads: list[Workload],
    stack: str,
    dtype: str | None,
) -> list[Html]:
    shape = {field: getattr(config, field) for field in type(config).model_fields if field not in ("name", "reference")}
    versions = [[name, _version(name)] for name in ("pruninfersim", "numpy", "scipy", "pandas", "plotly", "pydantic")]
    asked = [
        ["model", config.name],
        ["hardware", gpu.name],
        ["methods", ", ".join(names)],
        ["sparsity", f"{sparsity:.4g}"],
        ["stack", stack],
        ["dtype", dtype or f"{config.dtype} (the model's own)"],
        *([f"workload {i}", _workload(workload)] for i, workload in enumerate(workloads, start=1)),
    ]
    commands = [
        [
            "pruninfersim", "report", "--model", config.name, "--gpu", gpu.name, "--method", ",".join(names),
            "--sparsity", f"{sparsity:g}", "--phase", workload.phase, "--batch", f"{int(workload.batch)}",
            "--context", f"{int(workload.context)}", "--stack", stack, *(["--dtype", dtype] if dtype else []),
            "--out", f"{workload.phase}.html",
        ]
        for workload in workloads
    ]  # fmt: skip
    return [
        table("What was asked", ["name", "value"], asked),
        paragraph("On the command line, one page per workload:"),
        Html(f"<pre>{html.escape(chr(10).join(map(shlex.join, commands)))}</pre>"),
        table(
            f"Model {config.name}: {config.reference}", ["field", "value"],
            [[key, f"{value}"] for key, value in shape.items() if value not in (None, "", (), {})],
        ),
        Html(f"<h3>GPU {html.escape(gpu.name)}</h3><pre>{html.escape(str(gpu))}</pre>"),
        table("Versions", ["package", "version"], [["python", platform.python_version()], *versions]),
    ]  # fmt: skip


def _workload(workload: Workload) -> str:
    text = (
        f"{workload.phase}, batch {int(workload.batch)}, {int(workload.query_len)} new tokens per sequence, "
        f"context {int(workload.context)}"
    )
    return f"{text}, LM head on {'every token' if workload.logits == 'all' else 'the last token'}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
