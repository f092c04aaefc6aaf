"""What a report says: a summary in sentences, tables, provenance and input, one function per section."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from pruninfersim import plots, pruning
from pruninfersim.cost import Estimate
from pruninfersim.cost.memory import kv_memory, weight_memory
from pruninfersim.errors import InvalidInputError, MissingValueError
from pruninfersim.pruning import Method
from pruninfersim.questions.comparison import Speedup, compare_estimates
from pruninfersim.questions.explain import MEANING, Explanation, explain
from pruninfersim.questions.headroom import max_speedup
from pruninfersim.questions.setup import Setup
from pruninfersim.report.blocks import Block, Code, Heading, Points, Table, Text
from pruninfersim.workload import Workload

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
    "headroom: the speedup if the ops that the method changes ran at their roofline, and all else as it does",
    "bound: dense time of this stack over the least time of the pruned model; no kernels and no fusion beat it",
    "ideal: both sides at their roofline",
    "FLOPs: ratio of the FLOPs",
    "claim: 1/(1-s), the usual claim for sparsity s, which bounds nothing",
)


@dataclass(frozen=True, eq=False)
class Case:
    """One workload of a report: the dense pass, and each method on it, by its name."""

    name: str
    setup: Setup
    workload: Workload
    methods: dict[str, Method]
    results: dict[str, Speedup]
    left_out: dict[str, str]
    why: dict[str, Explanation]

    @property
    def dense(self) -> Estimate:
        """The dense side, which all methods share."""
        return next(iter(self.results.values())).dense

    @property
    def focus(self) -> str:
        """The method with the most left to gain from better kernels, by the ratio of headroom to estimate."""
        return max(
            self.results, key=lambda name: float(self.results[name].headroom) / float(self.results[name].estimated)
        )


def case(setup: Setup, workload: Workload, methods: Sequence[Method], sparsity: float) -> Case:
    """Compare all methods with the dense pass; one that cannot do what is asked is left out, with the reason."""
    if workload.shape:
        raise InvalidInputError(f"give single workloads; one is a sweep of shape {workload.shape}")
    name = f"{workload.phase.capitalize()}, batch {int(workload.batch)}, context {int(workload.context)}"
    dense = setup.trace(workload)
    before = setup.estimate(dense)
    results: dict[str, Speedup] = {}
    chosen: dict[str, Method] = {}
    left_out: dict[str, str] = {}
    for method in methods:
        label = method if isinstance(method, str) else pruning.at(method, 0.0).name
        try:
            results[label] = compare_estimates(before, setup.estimate(dense.prune(pruning.at(method, sparsity))))
            chosen[label] = method
        except (MissingValueError, InvalidInputError) as error:
            left_out[label] = str(error)
    if not results:
        reasons = "; ".join(f"{method}: {reason}" for method, reason in left_out.items())
        raise InvalidInputError(f"no method is left to report on. {reasons or 'Give at least one method'}")
    why = {method: explain(result) for method, result in results.items()}
    return Case(name, setup, workload, chosen, results, left_out, why)


# --- sections ---------------------------------------------------------------------------------------------------


def summary(case: Case) -> list[Block]:
    """Return what a reader should take away, in sentences with numbers."""
    ranked = sorted(case.results, key=lambda name: -float(case.results[name].estimated))
    best, last = case.results[ranked[0]], case.results[ranked[-1]]
    parts = plots.breakdown_info(case.dense).milliseconds
    largest = max(parts, key=lambda part: parts[part])
    total = float(case.dense.latency) * 1e3
    lines = [
        _verdict(case),
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
        f"What keeps {case.focus} from its claim most is '{step}' ({MEANING[step]}): {_ms(losses[step])} of its "
        f"{_ms(why.speedup.pruned.latency)}."
    )
    room = max_speedup(case.dense.trace, why.speedup.pruned.trace, hardware=case.setup.hardware, stack=case.setup.stack)
    lines.append(
        f"Perfect kernels for the ops that {case.focus} changes would bring it from {room.estimated:.2f} to "
        f"{room.perfect_changed:.2f}; its bound, with all kernels perfect and fused, is {room.perfect_all:.2f}."
    )
    slower = [name for name in ranked if float(case.results[name].estimated) < 1.0]
    if slower:
        lines.append(f"Slower than dense: {', '.join(slower)}.")
    lines += [f"{method} is left out: {reason}" for method, reason in case.left_out.items()]
    return [Heading(case.name), Points(tuple(lines))]


def _verdict(case: Case) -> str:
    """Say what fits into the memory of the GPU, and what does not."""
    room = case.setup.hardware.memory_size / 1e9
    sides = {"dense": case.dense} | {name: result.pruned for name, result in case.results.items()}
    fitting = [name for name, side in sides.items() if side.fits]
    weights, cache = (float(size(case.dense.trace)) / 1e9 for size in (weight_memory, kv_memory))
    need = f"{weights:.4g} GB of weights and {cache:.3g} GB of KV cache on {room:.4g} GB"
    if case.dense.fits:
        late = [name for name in sides if name not in fitting]
        return f"Dense fits: {need}." + (f" These do not: {', '.join(late)}." if late else "")
    rest = f"It fits with {', '.join(fitting)}." if fitting else "No method of this page makes it fit."
    return f"Dense does not fit: {need}. {rest} Times are those of a card with enough memory."


def _ms(seconds: Any) -> str:
    """Return a time in the unit that suits it.

    >>> _ms(0.0123), _ms(4.5678), _ms(3.2e-5)
    ('12.3 ms', '4.57 s', '32 µs')
    """
    value = float(seconds)
    factor, unit = (1.0, "s") if value >= 1.0 else (1e3, "ms") if value >= 1e-3 else (1e6, "µs")
    return f"{value * factor:.3g} {unit}"


def _interval(step: Estimate) -> str:
    low, high = step.interval
    return f"90 % interval {_ms(low)} to {_ms(high)}"


def _speed(result: Speedup) -> str:
    low, high = result.interval
    return f"{result.estimated:.2f} times dense (90 % interval {low:.2f} to {high:.2f})"


def speedups(case: Case) -> Table:
    """Return the four speedups, times and memory of the dense pass and of every method."""
    head = ("method", "achieved attention / mlp", "estimated", "90 % interval", "headroom", "bound", "ideal", "FLOPs",
            "claim", "time [ms]", "weights [GB]", "KV cache [GB]", "fits")  # fmt: skip
    memory = case.setup.hardware.memory_size
    sides = {"dense": case.dense} | {name: result.pruned for name, result in case.results.items()}
    rows: list[tuple[object, ...]] = []
    for name, side in sides.items():
        weights, cache = float(weight_memory(side.trace)), float(kv_memory(side.trace))
        row: list[object] = [name, "", 1.0, "", 1.0, float(side.total / case.dense.least), 1.0, 1.0, 1.0]
        if name in case.results:
            result = case.results[name]
            low, high = result.interval
            claim = "none" if result.claim is None else float(result.claim)
            three = [float(x) for x in (result.headroom, result.bound, result.ideal, result.flops)]
            row = [
                name,
                _achieved(result),
                float(result.estimated),
                f"{low:.2f}\u00a0to\u00a0{high:.2f}",
                *three,
                claim,
            ]
        fits = "yes" if weights + cache <= memory else "no"
        rows.append((*row, float(side.total) * 1e3, weights / 1e9, cache / 1e9, fits))
    formats = ("", "", ".2f", "", ".2f", ".2f", ".2f", ".2f", ".2f", ".3g", ".2f", ".2f")
    return Table(case.name, head, tuple(rows), formats)


def _achieved(result: Speedup) -> str:
    """Return the share removed from attention and from MLP, over all methods."""
    kept = dict.fromkeys(("attention", "mlp"), 1.0)
    for reached in result.achieved.values():
        for block in kept:
            kept[block] *= 1.0 - float(reached.get(block, 0.0))
    return " / ".join(f"{1.0 - share:.3g}" for share in kept.values())


def waterfalls(case: Case) -> Table:
    """Return the steps from the claim to the estimate of every method."""
    rows = tuple(
        (method, *(float(value) * 1e3 for value in why.steps.values()), float(why.speedup.pruned.total) * 1e3)
        for method, why in case.why.items()
    )
    steps = tuple(next(iter(case.why.values())).steps)
    caption = "The same for every method [ms]; the steps of a row add up to its estimate"
    return Table(caption, ("method", *steps, "estimate"), rows, ("", *["z.2f"] * (len(steps) + 1)))


def provenance(cases: Sequence[Case]) -> list[Block]:
    """Return what the time of each class of ops rests on, and its largest share of any pass of each workload."""
    rows: dict[tuple[str, ...], list[Any]] = {}
    for i, case in enumerate(cases):
        for side in [case.dense, *(result.pruned for result in case.results.values())]:
            keys = list(zip(side.trace.kernel, side.trace.dtype, side.provenance.tolist(), strict=True))
            for key in dict.fromkeys(keys):
                mine = np.array([other == key for other in keys])
                priced, wide = side.priced[int(np.argmax(mine))], float(np.max(side.widening * mine))
                band = priced.spread.widened(max(wide, 1.0))
                text = f"{np.expm1(band.low):+.0%} to {np.expm1(band.high):+.0%}"
                row = rows.setdefault(key, [*key, *[0.0] * len(cases), text, priced.source])
                row[3 + i] = max(row[3 + i], 100.0 * float(side.share[mine].sum()))
    ordered = sorted(rows.values(), key=lambda row: -max(row[3 : 3 + len(cases)]))
    head = ("kernel", "dtype", "provenance", *(case.name for case in cases), "90 % band", "source")
    caption = "Evidence per kernel, with the largest share it has of a pass, dense or pruned [%]"
    formats = ("", "", "", *[".1f"] * len(cases))
    notes = tuple(
        f"{case.name}, {name}: {note}" for case in cases for name, r in case.results.items() for note in r.notes
    )
    kinds = (
        "Provenance says what the time of an op rests on: roofline is a definition; calibrated a fit on timings of "
        "this GPU, inside of the shapes that it holds for; extrapolated is a fit used outside of these, or carried "
        "over from another GPU or kernel. The band is that of a single op, measured over predicted."
    )
    table = Table(caption, head, tuple(tuple(row) for row in ordered), formats)
    return [Text(kinds), table, *([Points(notes)] if notes else [])]


def question(cases: Sequence[Case], sparsity: float) -> list[Block]:
    """Return everything that was asked, as tables and as commands, and the versions that answered."""
    setup, names = cases[0].setup, list(dict.fromkeys(name for case in cases for name in case.methods))
    config = setup.model
    shape = {field: getattr(config, field) for field in type(config).model_fields if field not in ("name", "reference")}
    versions = [(name, _version(name)) for name in ("pruninfersim", "numpy", "scipy", "pandas", "plotly", "pydantic")]
    asked = (
        ("model", config.name),
        ("hardware", setup.hardware.name),
        ("methods", ", ".join(names)),
        ("sparsity", f"{sparsity:.4g}"),
        ("stack", setup.stack.stack),
        ("dtype", setup.dtype),
        *((f"workload {i}", _workload(case.workload)) for i, case in enumerate(cases, start=1)),
    )
    commands = [
        [
            "pruninfersim", "report", "--model", config.name, "--gpu", setup.hardware.name, "--method", ",".join(names),
            "--sparsity", f"{sparsity:g}", "--phase", work.phase, "--batch", f"{int(work.batch)}",
            "--context", f"{int(work.context)}", "--stack", setup.stack.stack, "--dtype", setup.dtype,
            "--out", f"{work.phase}.html",
        ]
        for work in (case.workload for case in cases)
    ]  # fmt: skip
    return [
        Table("What was asked", ("name", "value"), asked),
        Text("On the command line, one page per workload:"),
        Code("\n".join(map(shlex.join, commands))),
        Table(
            f"Model {config.name}: {config.reference}", ("field", "value"),
            tuple((key, f"{value}") for key, value in shape.items() if value not in (None, "", (), {})),
        ),
        Heading(f"GPU {setup.hardware.name}"),
        Code(str(setup.hardware)),
        Table("Versions", ("package", "version"), (("python", platform.python_version()), *versions)),
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
