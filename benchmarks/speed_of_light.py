"""Beside aiconfigurator-core in its speed-of-light mode: the same passes, each at its roofline, on one thread."""

from __future__ import annotations

import json
import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import pruninfersim as pis
from benchmarks import questions
from benchmarks.table import Line, Part, duration, timed

MODEL, GPU = "llama-3.1-8b", "h100-sxm"
#: The other side's names of these two, and of the tables whose hardware figures it takes.
THEIR_CONFIG, SYSTEM, BACKEND, RELEASE = "meta-llama--Meta-Llama-3.1-8B_config.json", "h100_sxm", "trtllm", "1.3.0rc20"
#: Twelve sparsities of static width, whose result is a smaller model that both sides can describe.
SPARSITY = np.linspace(0.05, 0.6, 12)
#: Size at which the aim is judged: what the other side prepares for each model weighs less the more passes there are.
FULL = 1_000_000
#: Runs of which the quickest counts, on either side, where all passes are asked.
REPEATS = 3
#: Ways to ask the other side (methods of `Theirs`): what the table calls them, one pass in how many is timed, and how
#: many times our time is aimed at.
WAYS = {
    "compiled": ("an engine compiled for each model", 1, 1.5),
    "listed": ("ops of each model handed over with every pass", 4, 20.0),
    "by_name": ("`run_static`, every op by name", 10, 20.0),
}

Passes = list[tuple[str, int, int]]


def speed_of_light(points: int) -> Part:
    """One model and GPU, dense and pruned by static width: configurations per second of both."""
    try:
        import aiconfigurator_core as _  # noqa: F401
    except ImportError:
        reason = "left out: not installed (`pip install 'pruninfersim[aiconfigurator]'`)"
        return Part((Line("aiconfigurator-core", "", reason),), MEANING)
    wanted = questions.workloads(points / len(SPARSITY))
    ask = {"models": MODEL, "hardware": GPU, "methods": "static-width", "sparsity": SPARSITY, "stacks": "ideal"}
    pis.sweep(**ask, workloads=questions.workloads(1), progress=False)
    frame = pis.sweep(**ask, workloads=wanted, progress=False)
    seconds = timed(lambda: pis.sweep(**ask, workloads=wanted, progress=False), REPEATS)
    count = len(frame)
    ours = seconds / count
    lines = [Line("static width at the roofline", f"{count:,}", duration(seconds), duration(ours))]
    passes = [single for workload in wanted for single in _passes(workload)]
    with tempfile.TemporaryDirectory() as folder:
        theirs = Theirs([_config(Path(folder), i, s) for i, s in enumerate((0.0, *SPARSITY))])
        for name, (label, share, aim) in WAYS.items():
            way, some = getattr(theirs, name), passes[::share]
            times: list[np.ndarray] = []
            theirs.start()
            took = timed(lambda way=way, some=some, times=times: times.append(way(some)), REPEATS if share == 1 else 1)
            passed = len(some) * len(SPARSITY)
            gain = took / passed / ours
            met = gain >= aim if points >= FULL else None
            lines += [
                Line(f"aiconfigurator-core, {label}", f"{passed:,}", duration(took), duration(took / passed)),
                Line("- its time over ours", "", f"{gain:.2g} times", "", f">= {aim:g} times", met),
            ]
            if share == 1:
                same = _difference(frame, times[0])
                lines.append(Line("- speedups of the two differ by, median", "", f"{same:.2%}"))
    return Part(tuple(lines), MEANING)


def _passes(workload: pis.Workload) -> Passes:
    """Return the single passes of a workload with array fields: phase, batch, context."""
    batch, context = np.broadcast_arrays(workload.batch, workload.context)
    return [(workload.phase, int(b), int(c)) for b, c in zip(batch.ravel(), context.ravel(), strict=True)]


class Theirs:
    """The other side: its database in speed-of-light mode and one model per Hugging Face configuration."""

    def __init__(self, folders: list[Path]):
        logging.getLogger("aiconfigurator_core").setLevel(logging.ERROR)
        from aiconfigurator_core.sdk.perf_database import get_database_view

        self.folders = folders
        self.database: Any = get_database_view(SYSTEM, BACKEND, RELEASE, database_mode="SOL")

    def start(self) -> None:
        """Build the models anew: what a way prepares is part of its time, what they all share is not."""
        from aiconfigurator_core.sdk.config_builders import build_model_config
        from aiconfigurator_core.sdk.models import get_model

        sizes = {"tp_size": 1, "pp_size": 1, "attention_dp_size": 1, "moe_tp_size": 1, "moe_ep_size": 1}
        self.models = [get_model(str(folder), build_model_config(**sizes), BACKEND) for folder in self.folders]

    def compiled(self, passes: Passes) -> np.ndarray:
        """Compile an engine for each model, then ask it for the time of each pass; nothing but the time comes back."""
        import aiconfigurator_core
        from aiconfigurator_core.sdk.engine import EngineHandle, build_engine_spec_json

        times = []
        for folder, model in zip(self.folders, self.models, strict=True):
            text = build_engine_spec_json(
                model, model_path=str(folder), system=SYSTEM, backend=BACKEND, backend_version=RELEASE,
                kv_block_size=None, systems_path=None, nextn=0, database=self.database,
            )  # fmt: skip
            engine = EngineHandle(aiconfigurator_core.engine_spec_bincode_from_json(text))
            ask = {
                "prefill": engine.predict_prefill_latency,
                "decode": lambda batch, context, engine=engine: engine.predict_decode_latency(batch, context - 1),
            }
            times.append([ask[phase](batch, context) for phase, batch, context in passes])
        return np.array(times)

    def listed(self, passes: Passes) -> np.ndarray:
        """Hand the ops of a model to one engine with every pass, which is how shapes of one's own are priced."""
        from aiconfigurator_core.sdk.engine import EngineHandle, build_ops_json

        engine = EngineHandle.for_database(self.database)
        times = []
        for model in self.models:
            ops = {"prefill": build_ops_json(model.context_ops), "decode": build_ops_json(model.generation_ops)}
            for phase, batch, context in passes:
                prefill = phase == "prefill"
                step = engine.evaluate_ops_json(ops[phase], is_context=prefill, batch_size=batch, s=context)
                times.append(sum(latency for _, latency, _, _ in step))
        return np.array(times).reshape(len(self.models), -1)

    def by_name(self, passes: Passes) -> np.ndarray:
        """Ask its backend for each pass: latency and source of every op, energy and memory."""
        from aiconfigurator_core.sdk.backends.factory import get_backend
        from aiconfigurator_core.sdk.config import RuntimeConfig

        backend = get_backend(BACKEND)
        mode = {"prefill": "static_ctx", "decode": "static_gen"}
        times = []
        for model in self.models:
            for phase, batch, context in passes:
                asked = RuntimeConfig(batch_size=batch, beam_width=1, isl=context, osl=2)
                summary = backend.run_static(model, self.database, asked, mode[phase])
                parts = (summary.get_context_latency_dict(), summary.get_generation_latency_dict())
                times.append(sum(sum(part.values()) for part in parts))
        return np.array(times).reshape(len(self.models), -1)


def _config(folder: Path, number: int, sparsity: float) -> Path:
    """Write the configuration of the model that static width leaves, and return its directory."""
    import aiconfigurator_core

    known = Path(aiconfigurator_core.__file__).parent / "model_configs" / THEIR_CONFIG
    config = json.loads(known.read_text(encoding="utf-8"))
    ops = pis.trace(MODEL, pis.Workload.decode()).prune(pis.pruning.StaticWidth(sparsity))
    width = dict(zip(ops.name, ops.n.tolist(), strict=True))
    head = pis.models.get(MODEL).head_dim
    config |= {
        "num_attention_heads": round(width["q"] / head),
        "num_key_value_heads": round(width["k"] / head),
        "intermediate_size": round(width["gate"]),
        "head_dim": head,
    }
    home = folder / f"model-{number}"
    home.mkdir()
    (home / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return home


def _difference(frame: Any, times: np.ndarray) -> float:
    """Return by how much the speedups of the two sides differ, median over all configurations."""
    theirs = (times[0] / times[1:]).T.reshape(-1)  # workload, then sparsity, as in the frame
    return float(np.median(np.abs(frame["ideal_speedup"].to_numpy() / theirs - 1.0)))


MEANING = f"""
**aiconfigurator-core**: the same question to both sides. {MODEL} on {GPU}, dense and pruned by static width to
{len(SPARSITY)} sparsities, prefill and decode of batches x lengths, every op at its roofline. Static width leaves a
smaller model, which the other side can describe; what the other families leave it cannot. `pruninfersim` answers with
`pis.sweep(stacks="ideal")`: times, four speedups with interval, bytes and achieved sparsity of each configuration.
aiconfigurator-core answers in its database mode `SOL`, one pass (all ops of a dense or a pruned model) per call, in a
Python loop around its Rust core; dense passes are shared among the sparsities, as on this side. It is asked in three
ways: `predict_prefill_latency` and `predict_decode_latency` of an engine compiled for each model, which return one
number (compiling counts, and weighs less the more passes there are); `evaluate_ops_json`, which prices any list of ops
on one engine; `run_static`, which returns each op by name with its source, and energy and memory. It has no call for
many passes at once. Both sides run on one thread; the quickest of {REPEATS} runs counts, where all passes are asked.
"""
