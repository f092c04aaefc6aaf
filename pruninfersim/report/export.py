"""Traces and estimates for other programs: CSV, Parquet and JSON with a schema version, and a timeline of a step.

Schema 1: one row per op and sweep point. A trace has the columns of `OpTrace`, an estimate those of
`Estimate.to_frame`; every row of a CSV or Parquet file repeats the name of its schema, a JSON file says it once.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pruninfersim._util.files import atomically, write_text
from pruninfersim.cost import Estimate
from pruninfersim.errors import InvalidInputError
from pruninfersim.trace import LABELS, NEUTRAL, OpTrace

if TYPE_CHECKING:
    import pandas as pd

#: Version of the columns below; a change of meaning raises it.
SCHEMA = 1
#: Microseconds of a second: the unit of Chrome's format.
MICRO = 1e6


def trace_frame(trace: OpTrace) -> pd.DataFrame:
    """Return one row per op (and per sweep point, in C order) with all columns and labels of a trace.

    >>> from pruninfersim import Workload
    >>> from pruninfersim import trace as make
    >>> frame = trace_frame(make("llama-3.1-8b", Workload.decode(batch=[1, 8])))
    >>> sorted(set(frame["point"])), float(frame["m"].max())
    ([0, 1], 8.0)
    """
    import pandas as pd

    shape = trace.shape
    points = int(np.prod(shape[:-1], dtype=int))
    flat: dict[str, Any] = {"point": np.repeat(np.arange(points), shape[-1])} if len(shape) > 1 else {}
    for name in LABELS:
        values = getattr(trace, name)
        shown = [" ".join(str(x) for x in value) for value in values] if name == "layers" else list(values)
        flat[name] = shown * points
    flat |= {name: np.broadcast_to(getattr(trace, name), shape).reshape(-1) for name in NEUTRAL}
    return pd.DataFrame(flat)


def write_export(what: OpTrace | Estimate, path: str | Path) -> Path:
    """Write a trace or an estimate to a .csv, .parquet or .json file and return its path.

    Raises
    ------
    InvalidInputError
        If the ending is none of these, or the file cannot be written.

    >>> from pruninfersim import Workload
    >>> from pruninfersim import trace as make
    >>> file = write_export(make("llama-3.2-1b", Workload.decode()), "step.json")
    >>> json.loads(file.read_text())["schema"]
    'pruninfersim.trace/1'
    """
    file = Path(path)
    kind = "estimate" if isinstance(what, Estimate) else "trace"
    frame = what.to_frame() if isinstance(what, Estimate) else trace_frame(what)
    schema = f"pruninfersim.{kind}/{SCHEMA}"
    if file.suffix == ".json":
        head: dict[str, Any] = {"schema": schema}
        if isinstance(what, Estimate):
            head |= {"hardware": what.hardware.name, "stack": what.stack}
        rows = json.loads(frame.to_json(orient="records", double_precision=15))
        return write_text(file, json.dumps(head | {"rows": rows}, indent=1))
    marked = frame.assign(schema=schema)
    if file.suffix == ".csv":
        return write_text(file, marked.to_csv(index=False, lineterminator="\n"))
    if file.suffix == ".parquet":
        try:
            atomically(file, partial(marked.to_parquet, index=False))
        except (OSError, ImportError) as error:
            raise InvalidInputError(f"cannot write {file}: {error}") from None
        return file
    raise InvalidInputError(f"an export ends in .csv, .parquet or .json; got {file.name}")


def timeline(step: Estimate) -> dict[str, Any]:
    """Return a step as Chrome trace events, layer by layer in the order of its ops; Perfetto and Chrome show it.

    An op that runs a share of a time on average takes that share. Gaps are the spaces between the events.

    Raises
    ------
    InvalidInputError
        If the estimate has sweep axes.

    >>> from pruninfersim import Setup, Workload
    >>> step = Setup("llama-3.2-1b", "l40s").estimate(Workload.decode())
    >>> events = timeline(step)["traceEvents"]
    >>> end = events[-1]["ts"] + events[-1]["dur"]
    >>> abs(end / 1e6 - step.latency) < 1e-5  # up to the last gap
    True
    """
    trace = step.trace
    if trace.sweep_shape:
        raise InvalidInputError(f"a timeline is of one workload; the estimate has sweep axes {trace.sweep_shape}")
    run, gap = np.broadcast_arrays(step.run, step.gap)
    order: list[tuple[float, int, int, float]] = []
    for i, layers in enumerate(trace.layers):
        each = float(trace.count[i]) / max(1, len(layers))
        outside = -1.0 if trace.block[i] == "embedding" else np.inf
        order += [(float(layer), _rank(trace.block[i]), i, each) for layer in layers]
        order += [] if layers else [(outside, 0, i, each)]
    events, now = [], 0.0
    for layer, _, i, times in sorted(order):
        if times <= 0:
            continue
        busy = float(run[i]) * times
        events.append({
            "name": trace.name[i], "cat": trace.block[i], "ph": "X", "pid": step.stack, "tid": step.hardware.name,
            "ts": now * MICRO, "dur": busy * MICRO,
            "args": {
                "layer": int(layer) if np.isfinite(layer) and layer >= 0 else None, "kernel": trace.kernel[i],
                "m": float(trace.m[i]), "n": float(trace.n[i]), "k": float(trace.k[i]),
            },
        })  # fmt: skip
        now += busy + float(gap[i]) * times
    other = {"schema": f"pruninfersim.timeline/{SCHEMA}", "hardware": step.hardware.name, "stack": step.stack}
    return {"traceEvents": events, "displayTimeUnit": "ns", "otherData": other}


def write_timeline(step: Estimate, path: str | Path) -> Path:
    """Write the timeline of a step as JSON for ui.perfetto.dev and chrome://tracing, and return its path.

    Raises
    ------
    InvalidInputError
        If the estimate has sweep axes, or the file cannot be written.

    >>> from pruninfersim import Setup, Workload
    >>> write_timeline(Setup("llama-3.2-1b", "l40s").estimate(Workload.decode()), "step.json").name
    'step.json'
    """
    return write_text(Path(path), json.dumps(timeline(step)))


def _rank(block: str) -> int:
    return {"attention": 0, "mlp": 1}.get(block, 2)
