"""Which method, how much of it, on which GPU: what meets a target at a quality loss that one can afford."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Never

import numpy as np

from pruninfersim import hardware as hardware_registry
from pruninfersim import pruning
from pruninfersim._util.arrays import checked
from pruninfersim._util.defaults import CONTEXT
from pruninfersim._util.doors import door
from pruninfersim._util.words import refuse
from pruninfersim.cost import CostModel
from pruninfersim.errors import InvalidInputError, MissingValueError
from pruninfersim.hardware import HardwareProfile
from pruninfersim.models import ModelConfig
from pruninfersim.pruning import Method
from pruninfersim.questions.candidates import Work, grid_of, least, reach
from pruninfersim.questions.comparison import Speedup
from pruninfersim.questions.loss import Loss, losses
from pruninfersim.questions.pareto import published_quality, quality_table
from pruninfersim.questions.prices import hourly_prices
from pruninfersim.questions.recommendation import Option, Recommendation
from pruninfersim.questions.setup import Setup
from pruninfersim.questions.target import Target
from pruninfersim.questions.vocabulary import one_only
from pruninfersim.stacks import Stack
from pruninfersim.workload import Logits, Workload

if TYPE_CHECKING:
    import pandas as pd

#: The model whose quality losses come with the package.
PUBLISHED = "llama-3.1-8b"
#: So many methods, those that come closest on the GPUs asked for, are tried on other ones.
CLOSEST = 3
#: Words of `recommend` beside those of every question.
WORDS = (
    "target", "max_quality_loss", "quality", "prompt", "new_tokens", "clients", "methods", "chance", "price_per_hour",
    "elsewhere",
)  # fmt: skip


@door
def recommend(
    model: str | ModelConfig | None = None,
    hardware: str | HardwareProfile | Iterable[str | HardwareProfile] | None = None,
    stack: str | Stack | CostModel = "vendor",
    *,
    target: Target | Mapping[str, float] | None = None,
    max_quality_loss: float | None = None,
    quality: pd.DataFrame | str | Path | None = None,
    workload: Workload | None = None,
    phase: str = "decode",
    batch: int = 1,
    context: int = CONTEXT,
    logits: Logits | None = None,
    prompt: int | None = None,
    new_tokens: int | None = None,
    clients: int | None = None,
    method: Method | None = None,
    methods: Iterable[Method] | None = None,
    sparsity: Iterable[float] | None = None,
    chance: float = 0.5,
    price_per_hour: Mapping[str, float] | None = None,
    elsewhere: bool = True,
    dtype: str | None = None,
    tp: int = 1,
    ep: int = 1,
    **other: Never,
) -> Recommendation:
    """Return which methods, at which sparsity and on which GPU, meet a target, best first.

    For each method and GPU the least pruning that suffices is looked for: one vectorised sweep over the sparsities, and
    a finer one inside the step in which the target is met. The dense model counts as a method. Where none suffices, the
    result has what each comes closest with, the quality loss that would be enough, and GPUs that would do.

    Parameters
    ----------
    model : str or ModelConfig
    hardware : str, HardwareProfile, or several
    stack : str, callable or CostModel
    target : Target or mapping
        `latency`, `ttft`, `tpot` [s], `memory` [B] and `cost` (of a million tokens) at most, `speedup` [1] and
        `throughput` [tokens/s] at least; all parts have to be met, see `Target`.
    max_quality_loss : float, optional
        Largest loss that is allowed, in the unit of the quality table [%].
    quality : DataFrame or path, optional
        Table as `pruninfersim.pareto.read_quality` takes it. Between its rows the loss is a line, from no loss at
        sparsity 0; beyond its last row nothing is recommended. Default is the published one for Llama-3.1-8B, and no
        table for any other model.
    workload : Workload, optional
        A single pass; default is that of `phase`, `batch`, `context`, `logits`.
    prompt, new_tokens, clients : int, optional
        With new tokens the target is that of a request, as in `pruninfersim.request`.
    methods : several methods, optional
        Default is every family that the quality table has, or all of the reference paper without one.
    method : optional
        In place of `methods`: one method.
    sparsity : several floats, optional
        The only sparsities to try, for instance those that checkpoints exist of [1].
    chance : float
        Least chance that counts as meeting the target, from the 90 % intervals (`target.DISTRIBUTION`) [1].
    price_per_hour : mapping, optional
        GPU -> price of an hour, for a `cost`.
    elsewhere : bool
        Whether `Recommendation.other_gpus` looks for GPUs that would do where none of those asked for does.
    dtype, tp, ep : as in `Setup`

    Returns
    -------
    Recommendation

    Raises
    ------
    UnknownNameError, InvalidInputError, MissingValueError, FileFormatError

    >>> found = recommend("llama-3.1-8b", "h100-sxm", "ideal", target={"speedup": 1.5}, max_quality_loss=20,
    ...                   phase="decode", batch=1, context=4096)
    >>> found.best.method, found.best.sparsity
    ('dynamic-depth', 0.372)
    >>> [(option.method, round(option.quality_loss, 1)) for option in found if option.meets][:3]
    [('dynamic-depth', 5.1), ('semi-structured', 9.9), ('low-rank', 13.9)]
    """
    refuse(recommend, other)
    if model is None or hardware is None or target is None:
        raise InvalidInputError(
            "recommend needs a model, a GPU and a target: "
            "recommend('llama-3.1-8b', 'h100-sxm', target={'speedup': 1.5})"
        )
    one_only("recommend", model=model, stack=stack, dtype=dtype, phase=phase)
    wanted = Target.of(target)
    several = [hardware] if isinstance(hardware, str | HardwareProfile) else list(hardware)
    setups = [Setup(model, gpu, stack, dtype, tp, ep) for gpu in several]
    if not setups:
        raise InvalidInputError("the list hardware is empty; give at least one")
    work = _work(setups[0], workload, phase, batch, context, logits, prompt, new_tokens, clients)
    prices = hourly_prices(price_per_hour, [setup.hardware for setup in setups])
    _check(wanted, work, prices, setups)
    table = _losses(setups[0].model, quality)
    if max_quality_loss is not None and table is None:
        raise InvalidInputError(
            f"max_quality_loss needs a table of losses for {setups[0].model.name}: give quality=..., a table or a CSV "
            f"file with method, family, sparsity and gap_percent; the published one is of {PUBLISHED} only"
        )
    limit = None if max_quality_loss is None else float(checked("max_quality_loss", max_quality_loss, minimum=0))
    search = _Search(
        stack, work, wanted, limit, table, float(checked("chance", chance, minimum=1e-9, below=1)),
        None if sparsity is None else [float(x) for x in checked("sparsity", list(sparsity), minimum=1e-9, below=1)],
        _methods(method, methods, table),
    )  # fmt: skip
    options = [option for setup in setups for option in search.on(setup, prices.get(setup.hardware.name))]
    # A cost model is that of one GPU, and a cost has to be that of a price.
    askable = elsewhere and wanted.cost is None and not isinstance(stack, CostModel)
    options.sort(key=lambda option: option.order)
    close = list(dict.fromkeys(option.method for option in options if option.values))[:CLOSEST]
    return Recommendation(
        tuple(options), wanted, limit, search.chance, setups[0], work,
        (lambda: search.other_gpus(setups, close)) if askable else tuple,
    )  # fmt: skip


def _work(
    setup: Setup, workload: Workload | None, phase: str, batch: int, context: int, logits: Any, prompt: Any, new: Any,
    clients: Any,
) -> Work:  # fmt: skip
    """Return the pass, or the keywords of the request, that is asked for."""
    if new is None:
        if prompt is not None or clients is not None:
            raise InvalidInputError("a request needs new_tokens, beside its prompt; leave all of them out for one pass")
        work = setup.workload(phase, batch, context, logits) if workload is None else workload
        if work.shape:
            raise InvalidInputError(f"give a single workload; this one is a sweep of shape {work.shape}")
        return work
    if workload is not None:
        raise InvalidInputError("give a workload (one pass) or new_tokens (a request), not both")
    return {"batch": batch, "prompt": context if prompt is None else prompt, "new_tokens": new, "clients": clients}


def _check(target: Target, work: Work, prices: Mapping[str, float], setups: list[Setup]) -> None:
    """Raise InvalidInputError where a part of the target is that of another question."""
    a_pass = isinstance(work, Workload)
    for name in ("ttft", "tpot") if a_pass else ("speedup",):
        if name in target.parts:
            advice = "give new_tokens=..., or a latency" if a_pass else "leave new_tokens out, or give a latency"
            raise InvalidInputError(f"a target {name} is that of a {'request' if a_pass else 'single pass'}: {advice}")
    unpriced = [setup.hardware.name for setup in setups if setup.hardware.name not in prices]
    if target.cost is not None and unpriced:
        raise InvalidInputError(f"a target cost needs price_per_hour={{{unpriced[0]!r}: ...}} of every GPU")


def _losses(model: ModelConfig, quality: pd.DataFrame | str | Path | None) -> dict[str, Loss] | None:
    if quality is None:
        return losses(published_quality()) if model.name == PUBLISHED else None
    return losses(quality_table(quality))


def _methods(
    method: Method | None, methods: Iterable[Method] | None, table: dict[str, Loss] | None
) -> tuple[tuple[str, Method], ...]:
    """Return the methods to try, with their names."""
    if method is not None and methods is not None:
        raise InvalidInputError("give method (one, or a composition) or methods (alternatives), not both")
    if method is not None:
        methods = [method]
    several: list[Any] = list(pruning.METHODS if table is None else table) if methods is None else list(methods)
    if not several:
        raise InvalidInputError("the list methods is empty; give at least one")
    named = []
    for each in several:
        family = each if isinstance(each, str) and each in pruning.EVERY else pruning.at(each, 0.25).name
        named.append((family, family if isinstance(each, str) else each))
    return tuple(named)


class _Search:
    """One question about many GPUs."""

    def __init__(
        self, stack: Any, work: Work, target: Target, limit: float | None, table: dict[str, Loss] | None, chance: float,
        ratios: list[float] | None, methods: tuple[tuple[str, Method], ...],
    ) -> None:  # fmt: skip
        self.stack, self.work, self.target, self.limit, self.table = stack, work, target, limit, table
        self.chance, self.ratios, self.methods = chance, ratios, methods

    def on(self, setup: Setup, price: float | None) -> list[Option]:
        """Return the dense model and every method on one GPU."""
        try:
            dense = self._option(setup, "dense", None, None, price)
        except MissingValueError as error:
            return [Option.without("dense", setup.hardware.name, str(error))]
        return [dense, *(self._best(setup, name, method, price) for name, method in self.methods)]

    def _best(self, setup: Setup, name: str, method: Method, price: float | None) -> Option:
        family = pruning.EVERY.get(name, method)
        loss = None if self.table is None else self.table.get(name)
        why = pruning.unfit(family, None, setup.hardware, setup.dtype)
        if not why and self.limit is not None and loss is None:
            why = f"the quality table has no row of {name}"
        if why:
            return Option.without(name, setup.hardware.name, why)
        try:
            if not pruning.takes_sparsity(method):
                return self._option(setup, name, method, None, price, loss)
            return self._searched(setup, name, method, price, loss)
        except MissingValueError as error:
            return Option.without(name, setup.hardware.name, str(error))

    def _searched(self, setup: Setup, name: str, method: Method, price: float | None, loss: Loss | None) -> Option:
        grid = grid_of(method, loss, self.limit)
        if self.ratios is not None:
            grid = np.unique([ratio for ratio in self.ratios if ratio <= grid[-1] + 1e-12])
            if not len(grid):
                return Option.without(name, setup.hardware.name, f"none of the sparsities is among those of {name}")
        asked: dict[str, Any] = {
            "grid": grid, "refine": self.ratios is None, "chance_wanted": self.chance, "price": price,
        }  # fmt: skip
        allowed = None
        if self.limit is not None and loss is not None:
            limit = self.limit

            def allowed(points: Any) -> Any:
                return loss.at(points) <= limit

        found = least(self.work, setup, method, self.target, **asked, allowed=allowed)
        needs = None
        if not found.meets and allowed is not None and loss is not None:
            free = least(self.work, setup, method, self.target, **asked)
            needs = float(loss.at(free.sparsity)) if free.meets and free.sparsity is not None else None
        if found.sparsity is None:
            why = f"no sparsity of {name} loses {self.limit:g} % or less"
            return Option.without(name, setup.hardware.name, why, needs)
        return self._option(setup, name, method, found.sparsity, price, loss, needs)

    def _option(
        self, setup: Setup, name: str, method: Method | None, sparsity: float | None, price: float | None,
        loss: Loss | None = None, needs: float | None = None,
    ) -> Option:  # fmt: skip
        """Return one point, with all that is known of it."""
        found = reach(self.work, setup, method, sparsity, price)
        chance, share = float(found.chance(self.target)), float(found.reached(self.target))
        ratio = 0.0 if method is None else sparsity
        if ratio is None and isinstance(found.result, Speedup):
            ratio = float(found.result.pruned.trace.applied[-1].asked)
        gap = 0.0 if method is None else None if loss is None or ratio is None else float(loss.at(ratio))
        numbers = {key: float(value) for key, value in found.values.items()}
        bands = {key: (float(low), float(high)) for key, (low, high) in found.intervals.items()}
        late = self.limit is not None and (gap is None or not gap <= self.limit)
        return Option(
            name, setup.hardware.name, ratio, not late and chance >= self.chance, chance, share, numbers, bands,
            bool(found.room >= 1.0), gap, "" if loss is None or ratio is None else loss.source(ratio), needs,
            result=found.result,
        )  # fmt: skip

    def other_gpus(self, setups: list[Setup], close: list[str]) -> tuple[Option, ...]:
        """Return what meets the target on each other GPU, least quality loss first: dense or a close method."""
        asked, first = {setup.hardware.name for setup in setups}, setups[0]
        methods, found = [each for each in self.methods if each[0] in close], []
        for name in hardware_registry.names():
            if name in asked:
                continue
            try:
                setup = Setup(first.model, name, self.stack, first.dtype, first.tp, first.ep)
                options = [self._option(setup, "dense", None, None, None)]
                if not options[0].meets:
                    options = [self._best(setup, *each, None) for each in methods if self._at_most(setup, *each)]
            except MissingValueError:
                continue
            found += sorted((option for option in options if option.meets), key=lambda option: option.order)[:1]
        return tuple(sorted(found, key=lambda option: option.order))

    def _at_most(self, setup: Setup, name: str, method: Method) -> bool:
        """Return whether a method meets the target on a GPU if as much is pruned as may be: one point, not a sweep."""
        loss = None if self.table is None else self.table.get(name)
        if pruning.unfit(pruning.EVERY.get(name, method), None, setup.hardware, setup.dtype):
            return False
        grid = grid_of(method, loss, self.limit)
        allowed = grid if self.limit is None or loss is None else grid[loss.at(grid) <= self.limit]
        if not len(allowed):
            return False
        return bool(reach(self.work, setup, method, allowed[-1]).chance(self.target) >= self.chance)
