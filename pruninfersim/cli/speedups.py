"""Commands about what pruning brings: ``speedup``, ``headroom``, ``break-even``."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pruninfersim.cli import values
from pruninfersim.cli.options import Case, Format, Methods, Output, Question, Sparsities, asks
from pruninfersim.cli.program import app
from pruninfersim.cli.show import notes, show
from pruninfersim.errors import InvalidInputError

if TYPE_CHECKING:
    import pruninfersim as pis

#: Columns of `speedup` that a narrow table can do without, the first goes first.
MIDDLE = ("achieved attention", "achieved mlp", "flops", "ideal", "1/(1-s)", "bound", "pruned [ms]", "dense [ms]")
TERMS = {
    "1/(1-s)": "the usual claim.",
    "flops": "ratio of FLOPs.",
    "ideal": "both sides at their roofline.",
    "estimated": "what this stack delivers, 90 % interval low to high.",
    "headroom": "the same with perfect kernels for the ops that change.",
    "bound": "no kernels and no fusion make it faster.",
}


@dataclass(frozen=True)
class Pruned:
    """One case with one method, at a sparsity if the method has none of its own."""

    case: Case
    method: Any
    ratio: float | None

    @property
    def sparsity(self) -> float:
        """What is asked to go in all [1]."""
        if self.ratio is not None:
            return self.ratio
        asked = [float(applied.asked) for applied in self.traces()[1].applied]
        return asked[0] if len(asked) == 1 else 1.0 - math.prod(1.0 - each for each in asked)

    @property
    def columns(self) -> dict[str, Any]:
        """What a row about it says."""
        return {**self.case.columns, "sparsity": self.sparsity, "method": method_name(self.method)}

    def traces(self) -> tuple[pis.OpTrace, pis.OpTrace]:
        """Return the dense and the pruned trace."""
        import pruninfersim as pis

        dense = self.case.setup.trace(self.case.workload)
        return dense, dense.prune(pis.pruning.resolve(self.method, self.ratio))


def asked(method: Any, ratio: Any) -> tuple[Any, float | None]:
    """Return a method, and the sparsity that it is asked for; one that has its own, or those of a file, has none."""
    import pruninfersim as pis

    if not pis.pruning.takes_sparsity(method):
        return method, None
    return (method, ratio) if isinstance(ratio, float) else (pis.pruning.at(method, ratio), None)


def method_name(method: Any) -> str:
    """Return the registered name of a method, or the names of a composition."""
    import pruninfersim as pis

    if isinstance(method, str):
        return method if method in pis.pruning.EVERY else pis.pruning.aliases.find(method, pis.pruning.EVERY)
    return str(method.name) if hasattr(method, "apply") else " + ".join(method_name(part) for part in method)


def pruned_cases(question: Question, method: list[str], sparsity: list[str]) -> Iterator[Pruned]:
    """Yield every case with every method at every sparsity.

    Of ``all`` methods (the seven families of arXiv 2606.09080) or ``every`` one, those that cannot do what is asked are
    left out, which is told on standard error; of the ones that were named, none.
    """
    import pruninfersim as pis

    ratios = values.read("--sparsity", sparsity, values.ratio)
    every = values.several(method) in (["all"], ["every"])
    named = pis.pruning.names(every="every" in method) if every else values.methods(method)
    if not named:
        raise InvalidInputError("--method needs a name, several with commas, or all")
    left_out, wanted = [], []
    for ratio in ratios:
        for chosen in named:
            if ratio is not ratios[0] and not pis.pruning.takes_sparsity(chosen):  # its sparsity is its own
                continue
            try:
                wanted.append((chosen, *asked(chosen, ratio)))
            except InvalidInputError as error:
                if not every:
                    raise
                left_out.append(("", f"{chosen}: left out, {error}"))
    for case in question.cases:
        for chosen, how, share in wanted:
            here, each = case.setup, Pruned(case, how, share)
            family = pis.pruning.EVERY[chosen] if every and isinstance(chosen, str) else None
            why = family and pis.pruning.unfit(family, share, here.hardware, here.dtype, here.model)
            if why:
                left_out.append(("", f"{chosen}: left out, {why}"))
            else:
                yield each
    notes(left_out, 0)


@app.command()
@asks()
def speedup(
    question: Question,
    method: Methods = ["all"],  # noqa: B006  # typer copies it
    sparsity: Sparsities = ["0.5"],  # noqa: B006
    against: Annotated[
        str | None,
        typer.Option(help="Parent, a model or its config.json: compare this (pruned) model with it, no method."),
    ] = None,
    output: Output = Format.table,
) -> None:
    """Predict the speedup of pruning methods, or of a pruned checkpoint over its parent."""
    if against is not None:
        if method != ["all"] or sparsity != ["0.5"]:
            raise InvalidInputError("--against compares two checkpoints: leave --method and --sparsity out")
        _over_parent(question, against, output)
        return
    rows, said = [], []
    for each in pruned_cases(question, method, sparsity):
        result = each.case.setup.speedup(each.method, each.ratio, each.case.workload)
        rows.append({**each.columns, **_row(result)})
        said += [(each.case.label(question.cases, each.columns["method"]), note) for note in result.notes]
    show(rows, output, title="Speedup", legend=TERMS, drop=MIDDLE)
    notes(said, len(rows))


def _over_parent(question: Question, parent: str, output: Format) -> None:
    """Show what pruned models gain over the one that they were made from."""
    import pruninfersim as pis

    rows, said = [], []
    dense = pis.models.get(parent)
    for case in question.cases:
        setup = case.setup
        result = pis.compare(
            dense, setup.model, hardware=setup.hardware, stack=setup.stack,
            workload=case.workload, tp=question.tp, ep=question.ep,
        )  # fmt: skip
        rows.append({**case.columns, "method": result.method, **_row(result)})
        said += [(case.label(question.cases), note) for note in result.notes]
    show(rows, output, title=f"Speedup over {dense.name}", legend=TERMS, drop=MIDDLE)
    notes(said, len(rows))


def _row(result: pis.Speedup) -> dict[str, Any]:
    achieved = {block: float(value) for blocks in result.achieved.values() for block, value in blocks.items()}
    low, high = result.interval
    return {
        "method": result.method,
        "achieved attention": achieved.get("attention", 0.0),
        "achieved mlp": achieved.get("mlp", 0.0),
        "1/(1-s)": None if result.claim is None else float(result.claim),
        "flops": float(result.flops),
        "ideal": float(result.ideal),
        "estimated": float(result.estimated),
        "low": float(low),
        "high": float(high),
        "headroom": float(result.headroom),
        "bound": float(result.bound),
        "dense [ms]": float(result.dense.latency) * 1e3,
        "pruned [ms]": float(result.pruned.latency) * 1e3,
        "notes": result.notes,
    }


@app.command()
@asks()
def headroom(
    question: Question,
    method: Methods = ["all"],  # noqa: B006
    sparsity: Sparsities = ["0.5"],  # noqa: B006
    target: Annotated[
        list[str], typer.Option(help="List of speedups wanted, such as 1.5; default is the claim 1/(1-s).")
    ] = [],  # noqa: B006
    output: Output = Format.table,
) -> None:
    """Say what better kernels could gain, and how good they must be.

    For each speedup that is wanted: the share of their roofline that the kernels of the changed ops must reach.
    """
    import pruninfersim as pis

    wanted = values.read("--target", target, values.number) if target else []
    rows = []
    for each in pruned_cases(question, method, sparsity):
        setup, (dense, pruned) = each.case.setup, each.traces()
        where = {"hardware": setup.hardware, "stack": setup.stack}
        room = pis.max_speedup(dense, pruned, **where)  # type: ignore[arg-type]
        for goal in wanted or [1.0 / (1.0 - each.sparsity)]:
            need = float(pis.required_efficiency(goal, dense, pruned, **where))  # type: ignore[arg-type]
            rows.append(
                {
                    **each.columns,
                    "estimated": float(room.estimated),
                    "perfect changed": float(room.perfect_changed),
                    "bound": float(room.perfect_all),
                    "amdahl": float(room.amdahl),
                    "target": goal,
                    "efficiency [%]": 100.0 * need if math.isfinite(need) else None,
                    "possible": "yes" if need <= 1.0 else "no kernel" if math.isfinite(need) else "no",
                }
            )
    legend = {
        "estimated": "what this stack delivers.",
        "perfect changed": "with perfect kernels for the ops that change.",
        "bound": "every kernel perfect, and fused.",
        "amdahl": "if the changed ops took no time at all.",
        "efficiency [%]": (
            "share of their roofline that the kernels of the changed ops must reach for the target; above 100 % no "
            "kernel does, and without a number the rest of the model alone takes too long."
        ),
    }
    show(rows, output, title="Headroom", legend=legend, drop=("amdahl", "bound"))


@app.command("break-even")
@asks()
def break_even(
    question: Question,
    axis: Annotated[str, typer.Argument(help="What varies: sparsity, batch or context.")] = "batch",
    method: Methods = ["all"],  # noqa: B006
    against: Annotated[str | None, typer.Option(help="Another method; default is the dense model.")] = None,
    sparsity: Sparsities = ["0.5"],  # noqa: B006
    output: Output = Format.table,
) -> None:
    """Say where a method starts or stops to win.

    Against the dense model or another method, along sparsity, batch or context.
    """
    import pruninfersim as pis

    rival = values.methods([against])[0] if against else None
    varies = {"sparsity", axis} if axis == "sparsity" else {axis}
    rows, seen = [], set()
    for each in pruned_cases(question, method, sparsity):
        columns = {key: value for key, value in each.columns.items() if key not in varies}
        key = tuple(columns.values())
        if key in seen:
            continue
        seen.add(key)
        setup = each.case.setup
        fixed = {"sparsity": each.sparsity, "batch": each.case.batch, "context": each.case.context}
        found = list(
            pis.break_even(
                axis=axis,  # type: ignore[arg-type]
                method=each.method,
                against=rival,
                model=setup.model,
                hardware=setup.hardware,
                phase=each.case.phase,
                stack=setup.stack,
                dtype=setup.dtype,
                **fixed,  # type: ignore[arg-type]
            )
        )
        rows.append(
            {
                **columns,
                "axis": axis,
                "against": method_name(rival) if rival else "dense",
                "wins": _wins(found) if found else _throughout(each, rival, axis),
                "at": [crossing.value for crossing in found],
            }
        )
    shown = rows if output is not Format.table else [{k: v for k, v in row.items() if k != "at"} for row in rows]
    limits = {"sparsity": "0 to 0.95", "batch": "1 to 1024", "context": "16 to 131072"}
    show(shown, output, title=f"Where a method wins along {axis}", caption=f"Searched: {axis} {limits[axis]}.")


def _wins(found: list[Any]) -> str:
    """Return the ranges in which a method wins, in words."""
    parts, start = [], None if found[0].wins_above else ""
    for crossing in found:
        if crossing.wins_above:
            start = f"from {crossing.value:.4g}"
        else:
            parts.append(f"{start} below {crossing.value:.4g}".strip())
            start = None
    if start is not None:
        parts.append(f"{start} on")
    return ", ".join(parts)


def _throughout(each: Pruned, rival: Any, axis: str) -> str:
    """Return who wins along the whole axis."""
    import pruninfersim as pis

    sparsity = 0.25 if axis == "sparsity" else each.sparsity
    setup, workload = each.case.setup, each.case.workload
    dense = setup.trace(workload)
    sides = [dense if m is None else dense.prune(pis.pruning.at(m, sparsity)) for m in (rival, each.method)]
    before, after = (float(setup.estimate(side).latency) for side in sides)
    return "everywhere" if after < before else "nowhere" if after > before else "nowhere (equal)"
