"""The command that answers "what should I do?": ``recommend``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pruninfersim.cli import values
from pruninfersim.cli.options import Format, Methods, Output, Question, asks
from pruninfersim.cli.program import app
from pruninfersim.cli.show import notes, show
from pruninfersim.errors import InvalidInputError

#: Columns of a table that a narrow one can do without, the first goes first; what the target is about stays.
SPARE = (
    "quality from", "tokens/s", "memory [GB]", "reached", "fits", "TTFT [ms]", "TPOT [ms]", "low", "high",
    "needs loss [%]", "speedup",
)  # fmt: skip
#: Part of a target -> head of its column, and what its numbers are multiplied with there.
HEADS = {
    "ttft": ("TTFT [ms]", 1e3), "tpot": ("TPOT [ms]", 1e3), "speedup": ("speedup", 1.0),
    "throughput": ("tokens/s", 1.0), "memory": ("memory [GB]", 1e-9), "cost": ("cost of 1M", 1.0),
}  # fmt: skip
#: Part of a target -> units that its number may have.
TIMES = ("s", "ms", "us")
UNITS = {
    **dict.fromkeys(("latency", "ttft", "tpot"), TIMES), "memory": ("B", "MB", "GB", "MiB", "GiB"), "speedup": ("x",),
}  # fmt: skip
LEGEND = {
    "chance": "of meeting the target, from the 90 % interval (two halves of a log-normal distribution).",
    "reached": "share of the target that the estimate reaches; 1 meets it.",
    "loss [%]": "of the quality table, on a line between its rows.",
    "low": "with high, the 90 % interval of the latency [ms].",
}


@app.command()
@asks(phase=["decode"])
def recommend(
    question: Question,
    target: Annotated[
        list[str],
        typer.Option(
            help="List of what to reach, KIND=NUMBER: latency, ttft, tpot in seconds or with a unit (20ms), memory "
            "(16GB), cost at most; speedup, throughput (tokens/s) at least."
        ),
    ] = [],  # noqa: B006  # typer copies it
    max_loss: Annotated[float | None, typer.Option(help="Largest quality loss allowed, in percent.")] = None,
    quality: Annotated[
        Path | None, typer.Option(help="CSV with method, family, sparsity, gap_percent; default: the published one.")
    ] = None,
    method: Methods = ["all"],  # noqa: B006
    new_tokens: Annotated[
        str | None, typer.Option(help="Tokens to generate: the target is then that of a request, --context its prompt.")
    ] = None,
    chance: Annotated[float, typer.Option(help="Least chance that counts as meeting the target.")] = 0.5,
    price: Annotated[
        list[str], typer.Option(help="Price of an hour, GPU=PRICE, for a target cost; may be repeated.")
    ] = [],  # noqa: B006
    output: Output = Format.table,
) -> None:
    """Say what meets a target: which method, how much of it, on which GPU."""
    import pruninfersim as pis

    wanted = _target(target)
    chosen = values.several(method)
    methods = (
        None if chosen == ["all"] else pis.pruning.names(every=True) if chosen == ["every"] else values.methods(method)
    )
    prices = values.prices(price) or None
    rows: list[dict[str, Any]] = []
    said: list[tuple[str, str]] = []
    groups: dict[tuple[Any, ...], list[Any]] = {}
    for case in question.cases:
        setup = case.setup
        key = (setup.model.name, setup.stack.stack, setup.dtype, case.phase, case.batch, case.context)
        groups.setdefault(key, []).append(case)
    for cases in groups.values():
        first = cases[0]
        stacks = {case.setup.hardware.name: case.setup.stack for case in cases}
        found = pis.recommend(
            first.setup.model,
            [case.setup.hardware for case in cases],
            _stack(stacks, question.stack[0] if len(question.setups) == len(cases) else first.setup.stack.stack),
            target=wanted,
            max_quality_loss=max_loss,
            quality=quality,
            phase=first.phase,
            batch=first.batch,
            context=first.context,
            new_tokens=None if new_tokens is None else values.read("--new-tokens", [new_tokens], values.count)[0],
            methods=methods,
            chance=chance,
            price_per_hour=prices,
            dtype=first.setup.dtype,
            tp=question.tp,
            ep=question.ep,
        )
        for option in found:
            if option.why_not:
                said.append((f"{option.method} on {option.hardware}", option.why_not))
            else:
                rows.append(_row(first, option, new_tokens))
        if not found.meets:
            said += [("", text) for text in ("nothing meets the target", *found.would)]
    kept = {HEADS[name][0] for name in wanted if name in HEADS}
    drop = [name for name in SPARE if name not in kept]
    asked = str(pis.Target.of(wanted)) + ("" if max_loss is None else f", quality loss at most {max_loss:g} %")
    show(rows, output, title=f"To reach {asked}", legend=LEGEND, drop=drop, own=("method", "sparsity"))
    notes(said, 0)


def _stack(known: dict[str, Any], name: str) -> Any:
    """Return a function from a GPU to its cost model: those of the question, and that of the name for any other."""
    import pruninfersim as pis

    return lambda gpu: known[gpu.name] if gpu.name in known else pis.stacks.get(name, gpu)


def _target(given: list[str]) -> dict[str, float]:
    """Return a target from KIND=NUMBER, the number with a unit or without.

    >>> _target(["latency=20ms,speedup=1.5x", "memory=16GB"])
    {'latency': 0.02, 'speedup': 1.5, 'memory': 16000000000.0}
    >>> _target(["latency=5GB"])
    Traceback (most recent call last):
    pruninfersim.errors.InvalidInputError: --target: latency is not in GB; allowed: s, ms, us
    """
    wanted = {}
    for text in values.several(given):
        kind, equals, number = text.partition("=")
        if not equals:
            raise InvalidInputError(f"--target: {text!r} is not KIND=NUMBER, such as latency=20ms or speedup=1.5")
        unit, allowed = number.strip().lstrip("+-.0123456789 "), UNITS.get(kind.strip(), ())
        if unit in values.UNITS and unit and allowed and unit not in allowed:
            raise InvalidInputError(f"--target: {kind.strip()} is not in {unit}; allowed: {', '.join(allowed)}")
        wanted[kind.strip()] = values.read("--target", [number], values.quantity)[0]
    if not wanted:
        raise InvalidInputError("recommend needs a target, such as --target latency=20ms or --target speedup=1.5")
    return wanted


def _row(case: Any, option: Any, new_tokens: str | None) -> dict[str, Any]:
    columns = {**case.columns, "gpu": option.hardware, "sparsity": option.sparsity, "method": option.method}
    if new_tokens is not None:
        columns["phase"] = "request"
    low, high = option.intervals["latency"]
    row = {
        **columns,
        "meets": option.meets,
        "chance": round(option.chance, 2),  # the ends of the interval say no more
        "loss [%]": option.quality_loss,
        "quality from": option.quality_from or None,
        "time [ms]": option.values["latency"] * 1e3,
        "low": low * 1e3,
        "high": high * 1e3,
    }
    row |= {head: option.values[name] * scale for name, (head, scale) in HEADS.items() if name in option.values}
    return row | {"fits": option.fits, "reached": option.reached, "needs loss [%]": option.needs_loss}
