"""Every public call, with values that it takes and one or two that are hostile."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import pruninfersim as pis
from pruninfersim.questions.vocabulary import KEYWORDS
from validation.fuzz import values
from validation.fuzz.judge import Verdict, judged

#: Calls whose answers may hold NaN, and say so.
GAPS = {"models.table", "hardware.table", "pareto.Curve.at", "calibrate", "Calibration.table", "validate"}
#: Too much work for an input, or nothing but objects of one's own to give.
#: Constructors of results, which the library makes; and helpers of its own.
LEFT_OUT = {
    "OpTrace", "Estimate", "Speedup", "Speedups", "Explanation", "Calibration", "Workload", "pareto.Curve",
    "pareto.Frontier", "memory.Memory", "hardware.profiles_directory",
    "reproduce.write_reproduction", "reproduce.full_grid", "report.write_report", "report.html_report", "testing.*",
    "timings.aiconfigurator", "validate",
}  # fmt: skip
ROOMS = ("hardware", "memory", "models", "pareto", "plots", "pruning", "stacks", "timings")
#: Call -> arguments that are not told by their keyword.
GIVEN: dict[str, dict[str, Callable[[], Any]]] = {
    "estimate": {"trace": lambda: "llama-3.2-1b"},
    "compare": {"dense": values.dense, "pruned": lambda: values.dense().prune(pis.pruning.LowRank(0.5))},
    "explain": {"dense": values.answer},
    "max_speedup": {"dense": values.answer},
    "required_efficiency": {"dense": values.answer},
    "calibrate": {"timings": values.rows, "hardware": lambda: "h100-sxm"},
    "timings.parse": {"text": values.rows},
    "timings.as_ops": {"frame": values.rows},
    "Calibration.from_toml": {"path": lambda: "/nowhere"},
    "memory.memory_of": {"what": values.dense},
    "models.get": {"name": lambda: "llama-3.2-1b"},
    "hardware.get": {"name": lambda: "l40s"},
    "pruning.at": {"method": lambda: "low-rank"},
    "pareto.curves": {"quality": values.quality, "speed": lambda: lambda _, s: 1 / (1 - s)},
    "pareto.predicted_speeds": {"quality": values.quality},
    "pareto.frontier": {"families": values.curves},
    "pareto.best_method": {"families": values.curves},
    "calibrate_engine": {"stack": lambda: "vllm", "workload": lambda: pis.Workload.decode(1, 64)},
    "stacks.engine": {"name": lambda: "vllm", "host": lambda: None},
    "stacks.get": {"hardware": lambda: pis.hardware.get("l40s")},
    "suggest_width": {"workload": lambda: None},
    "trace": {"workload": lambda: None},
}
#: Keywords of the rooms that take objects.
OBJECTS: dict[str, Callable[[], Any]] = {
    "trace": values.dense, "step": lambda: values.answer().dense, "frame": values.grid, "info": values.answer,
    "dense": values.answer, "why": values.answer, "calibration": values.fitted, "families": values.curves,
    "what": values.answer, "sides": values.answer, "cost_model": lambda: values.answer().dense.cost_model,
    "gap": lambda: [0.0, 2.0], "ops": values.dense, "workload": lambda: pis.Workload.decode(1, 64),
}  # fmt: skip


@cache
def public_calls() -> dict[str, Callable[..., Any]]:
    """Return every public function, class and method of objects, by name."""
    found: dict[str, Callable[..., Any]] = {}
    places = [("", pis), *((f"{room}.", getattr(pis, room)) for room in ROOMS)]
    for prefix, place in places:
        for name in dir(place):
            what = getattr(place, name)
            ours = getattr(what, "__module__", "").startswith("pruninfersim") and not isinstance(what, type(pis))
            if ours and (inspect.isclass(what) or inspect.isfunction(what)):
                found[prefix + name] = what
    dense, answer = values.dense(), values.answer()
    objects = {
        "OpTrace": dense, "Speedup": answer, "Estimate": answer.dense, "CostModel": answer.dense.cost_model,
        "Setup": pis.Setup("llama-3.2-1b", "l40s", "ideal"), "Calibration": values.fitted(),
        "Workload": pis.Workload, "HardwareProfile": pis.hardware.get("l40s"),
        "ModelConfig": pis.models.get("llama-3.2-1b"), "pareto.Curve": values.curves()["low-rank"],
    }  # fmt: skip
    for name, made in objects.items():
        kind = made if inspect.isclass(made) else type(made)
        for method in vars(kind):
            what = getattr(made, method, None)
            if method[0] != "_" and inspect.ismethod(what):
                found[f"{name}.{method}"] = what
    return {name: what for name, what in found.items() if not {name, f"{name.split('.')[0]}.*"} & LEFT_OUT}


def arguments(name: str, what: Callable[..., Any], chance: random.Random) -> dict[str, Any]:
    """Return arguments that a call takes, with some hostile ones among them."""
    given: dict[str, Any] = {}
    own = GIVEN.get(name, {})
    names: list[tuple[str, bool]] = []
    for parameter in inspect.signature(what).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            names += [(word, False) for word in KEYWORDS if "Question" in str(parameter.annotation)]
        elif parameter.kind is parameter.VAR_POSITIONAL:
            continue
        else:
            names.append((parameter.name, parameter.default is parameter.empty))
    for word, needed in names:
        if word in own:
            given[word] = own[word]()
        elif word in values.SANE and (needed or chance.random() < 0.6):
            given[word] = chance.choice(values.SANE[word])
        elif word in OBJECTS and needed:
            given[word] = OBJECTS[word]()
        elif needed:
            given[word] = values.any_hostile(chance)
    if "question" in str(inspect.signature(what)) and "hardware" in given and chance.random() < 0.7:
        given = {key: value for key, value in given.items() if key not in ("tp", "ep", "workload", "workloads")}
    for _ in range(chance.choice((0, 1, 1, 1, 2, 3))):
        if names:
            given[chance.choice(names)[0]] = values.any_hostile(chance)
    if chance.random() < 0.02:
        given[chance.choice(("gpu", "seq_len", "zzz"))] = values.any_hostile(chance)
    return given


def call(name: str, given: dict[str, Any]) -> Verdict:
    """Return what comes of a public call."""
    what = public_calls()[name]
    positional = [given[p.name] for p in inspect.signature(what).parameters.values()
                  if p.kind is p.POSITIONAL_ONLY and p.name in given]  # fmt: skip
    return judged(lambda: what(*positional, **given), nan_is_fine=name in GAPS, signature=inspect.isclass(what))


def inputs(chance: random.Random) -> Iterator[tuple[str, str, Callable[[], Verdict]]]:
    """Yield name, arguments as text, and the call of one input after the other, without end."""
    names = sorted(public_calls())
    while True:
        name = chance.choice(names)
        given = arguments(name, public_calls()[name], chance)
        yield name, _text(given), partial(call, name, given)


def _text(given: dict[str, Any]) -> str:
    def one(value: Any) -> str:
        try:
            return repr(value)[:60]
        except Exception:
            return f"<{type(value).__name__}>"

    return ", ".join(f"{key}={one(value)}" for key, value in given.items())
