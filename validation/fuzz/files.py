"""Files of every reader, valid before something happened to them."""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

import pruninfersim as pis
from pruninfersim.models import reading
from pruninfersim.pruning.study import read_results, read_study
from pruninfersim.pruning.tables import read_ratios
from validation.fuzz import values
from validation.fuzz.judge import Verdict, judged

#: What a text or a number in a file becomes.
TOKENS = (
    "-1", "0", "1e308", "1e999", "-1e999", "NaN", "Infinity",
    "nan", "inf", "null", "true", '"1e9"', "9" * 30, "9" * 5000,
    "1.5", "0.1",
    '""', '"x"', "[]", "{}",
    "[1,2]", "[" * 5000, '"' + "y" * 20000 + '"', "100000", "999999999999999999", "1_000",
    '"../../etc"', '"\\u0000"', '"<b>"', "-0.0", "1e-320", "\r", "\n", "\t", ",", ";", '"', "#",
    "\ufeff", "\u2028", "'",
)  # fmt: skip
STUDY = """model: meta-llama/Llama-3.1-8B
pruning:
  - {type: static, target: NK, sparsity: 0.5, estimated_sparsity: -1}
  - type: dynamic_nk
    target: attention
    estimated_sparsity: 0.42
  - {type: static_m, target: all, sparsity: 0.9, enabled: false}
"""
STUDY_JSON = '{"pruning": [{"type": "static", "target": "NK", "ratio": 0.5}, {"type": "static_m", "target": "all"}]}'
GPU = pis.hardware.get("h100-sxm")
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")


@cache
def configs() -> list[dict[str, Any]]:
    """Return the configurations that are shipped."""
    entries = json.loads(Path(reading.__file__).with_name("named.json").read_text(encoding="utf-8"))
    return [entry["config"] for entry in entries.values()]


def _profile(chance: random.Random) -> str:
    names = ("l40s", "h100-sxm", "mi250x", "gb10", "t4")
    return (pis.hardware.profiles_directory() / f"{chance.choice(names)}.toml").read_text(encoding="utf-8")


def _calibration(chance: random.Random) -> str:
    every = sorted((pis.hardware.profiles_directory() / "calibrations" / "h100-sxm").glob("*.toml"))
    return chance.choice(every).read_text(encoding="utf-8")


@cache
def _table(name: str) -> str:
    return str(getattr(values, name)().to_csv(index=False))


def _ratios(chance: random.Random) -> str:
    return chance.choice(("layer,sparsity\n0,0.5\n1,0.25\n", "layer,attention,mlp\n0,0.25,0.5\n1,0,0.5\n",
                          "layer,q_proj,down_proj\n0,0.25,0.5\n1,0,0.5\n"))  # fmt: skip


def _used_profile(path: Path) -> Any:
    gpu = pis.hardware.load(path)
    return pis.estimate(values.dense(), hardware=gpu, stack="ideal")


def _used_config(path: Path) -> Any:
    model = pis.ModelConfig.from_hf(path)
    repr(model)
    return pis.estimate(model, phase="decode", batch=2, context=64, hardware="h200-sxm", stack="ideal")


def _used_calibration(path: Path) -> Any:
    fit = pis.Calibration.from_toml(path)
    times = fit.latency(pis.timings.as_ops("gemm", values.rows()), GPU) if fit.kind == "gemm" else np.ones(1)
    if (times <= 0).any() or not np.isfinite(times).all():
        return float("nan")
    return [*fit.band(np.array([1e-6, 1e-3])), fit.fitted_error, len(str(fit))]


def _used_quality(path: Path) -> Any:
    made = pis.pareto.curves(path, lambda _, s: 1 / (1 - s))
    return [pis.pareto.frontier(made).hypervolume, pis.pareto.best_method(made, 5.0)[1]]


@cache
def _importances() -> str:
    rows = [f"{layer},{role},{1 + layer},0.5" for layer in range(16) for role in ("attention", "mlp")]
    return "\n".join(["layer,role,importance,sparsity", *rows]) + "\n"


def _used_importances(path: Path) -> Any:
    sites = pis.where_to_prune("llama-3.2-1b", GPU, "ideal", method="static-width", importance=path)
    return [sites.greedy(0.9 * sites.dense).latency, sites.importance]


def _results(chance: random.Random) -> str:
    return chance.choice((
        "family | phase | sparsity | dense (ms) | pruned (ms)\nstatic_m | TPOT | 50% | 15.0 | 7.9\n",
        "method,sparsity,batch,speedup\nstatic_nk,0.5,8,1.31\ndynamic_m,25%,8k,1.5x\n",
        "some text\nmethod  speedup  model\nstatic_m   1.9x   Llama-3.1-8B\nstatic_k_24  1.2   Llama-3.1-8B\n",
    ))  # fmt: skip


#: Reader -> file name, valid content, what is done with the file.
READERS: dict[str, tuple[str, Callable[[random.Random], str], Callable[[Path], Any]]] = {
    "config.json": ("config.json", lambda chance: json.dumps(chance.choice(configs())), _used_config),
    "profile": ("gpu.toml", _profile, _used_profile),
    "calibration": ("fit.toml", _calibration, _used_calibration),
    "timings": ("rows.csv", lambda _: _table("rows"), pis.read_timings),
    "quality": ("quality.csv", lambda _: _table("quality"), _used_quality),
    "ratios": ("ratios.csv", _ratios, lambda path: [len(part) for part in _lists(read_ratios(path))]),
    "importances": ("importances.csv", lambda _: _importances(), _used_importances),
    "study": ("study.yaml", lambda _: STUDY, lambda path: [method.name for method in read_study(path, 0.5)]),
    "study as JSON": ("study.json", lambda _: STUDY_JSON, lambda path: [m.name for m in read_study(path, 0.5)]),
    "results": ("results.txt", _results, lambda path: read_results(path).measured.to_numpy()),
    "ratios as JSON": ("ratios.json", lambda _: '{"0": 0.5, "1": {"attention": 0.1, "mlp": 0.2}}', read_ratios),
}


def _lists(ratio: Any) -> Iterator[Any]:
    for _, part in pis.pruning.ratios.parts(ratio):
        yield np.atleast_1d(part.values if hasattr(part, "values") else part)


def _leaf(content: Any, chance: random.Random) -> Any:
    """Replace a value somewhere in a JSON value."""
    if isinstance(content, dict) and content and chance.random() < 0.9:
        key = chance.choice(sorted(content))
        return {**content, key: _leaf(content[key], chance)}
    if isinstance(content, list) and content and chance.random() < 0.7:
        place = chance.randrange(len(content))
        return [_leaf(value, chance) if i == place else value for i, value in enumerate(content)]
    token = chance.choice(TOKENS)
    try:
        return json.loads(token)
    except (ValueError, RecursionError):
        return chance.choice((10**30, -1, None, "x", [[]], {"a": {}}, 1e308, 100000, 0, True, 2.5, [1] * 3))


def mutated(text: str, chance: random.Random) -> bytes:
    """Return what is left of a text after something has happened to it."""
    way = chance.random()
    if way < 0.35 and text.lstrip()[:1] == "{":
        return json.dumps(_leaf(json.loads(text), chance)).encode()
    if way < 0.7:
        found = list(NUMBER.finditer(text))
        if found:
            one = chance.choice(found)
            text = text[: one.start()] + chance.choice(TOKENS) + text[one.end() :]
    data = bytearray(text.encode())
    for _ in range(chance.choice((0, 0, 1, 1, 3)) if way < 0.7 else chance.choice((1, 2, 8))):
        place = chance.randrange(len(data) + 1)
        act = chance.randrange(5)
        if act == 0 and place < len(data):
            data[place] ^= 1 << chance.randrange(8)
        elif act == 1:
            del data[place : place + chance.choice((1, 4, 100))]
        elif act == 2:
            data[place:place] = data[place : place + chance.choice((1, 50))]
        elif act == 3:
            data[place:place] = chance.choice(TOKENS).encode()
        else:
            del data[place:]
        data = data or bytearray(b"{")
    return bytes(data)


def _special(folder: Path, name: str, chance: random.Random) -> Path:
    """Return a path that is no plain file."""
    place = folder / f"special-{name}"
    if place.is_symlink() or place.exists():
        place.rmdir() if place.is_dir() and not place.is_symlink() else place.unlink()
    kind = chance.randrange(8)
    if kind == 0:
        os.mkfifo(place)
    elif kind == 1:
        place.mkdir()
    elif kind == 2:
        place.symlink_to(place)
    elif kind == 3:
        place.symlink_to("/dev/zero")
    elif kind == 4:
        return folder / ("n" * 300 + name)
    elif kind == 5:
        return folder / f"nul\0{name}"
    elif kind == 6:
        place.symlink_to("/proc/self/mem")
    return place


def resumed(folder: Path, chance: random.Random) -> Verdict:
    """Return what comes of a sweep that finds one of its parts changed: the same data set, or one line."""
    import pandas as pd

    ask = {"model": "llama-3.2-1b", "hardware": ["l40s", "a30"], "method": "low-rank", "stack": "ideal",
           "sparsity": [0.25, 0.5], "out": folder / "sweep", "progress": False}  # fmt: skip
    pis.sweep(**ask)
    before = pd.read_parquet(folder / "sweep")
    part = chance.choice(sorted((folder / "sweep").rglob("*.parquet")))
    data = bytearray(part.read_bytes())
    whole = bytes(data)
    if chance.random() < 0.2:
        del data[chance.randrange(len(data)) :]
    else:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    part.write_bytes(data)

    def again() -> Any:
        pis.sweep(**ask)
        after = pd.read_parquet(folder / "sweep")
        if not after.equals(before):
            raise AssertionError("another data set")

    verdict = judged(again)
    if verdict.kind != "answer":
        part.write_bytes(whole)
    return verdict


def inputs(chance: random.Random, folder: Path) -> Iterator[tuple[str, str, Callable[[], Verdict]]]:
    """Yield reader, content as text, and the reading of one file after the other, without end."""
    while True:
        if chance.random() < 0.005:
            yield "sweep directory", "a changed part", partial(resumed, folder, chance)
            continue
        reader = chance.choice(sorted(READERS))
        name, content, use = READERS[reader]
        if chance.random() < 0.02:
            path = _special(folder, name, chance)
            yield reader, repr(str(path))[-80:], partial(judged, partial(use, path))
            continue
        data = mutated(content(chance), chance)
        path = folder / name
        path.write_bytes(data)
        text = repr(data[:30000])
        yield reader, text, partial(judged, partial(use, path))
