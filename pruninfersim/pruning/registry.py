"""The named methods, what a `method=` argument may be, and which methods can do what is asked."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from pruninfersim._util.arrays import checked
from pruninfersim._util.doors import door, doors
from pruninfersim.errors import InvalidInputError, shown
from pruninfersim.hardware import HardwareProfile, precision
from pruninfersim.models import ModelConfig
from pruninfersim.pruning import aliases, quantized
from pruninfersim.pruning.activation_sparsity import ActivationSparsity
from pruninfersim.pruning.base import no_kernel
from pruninfersim.pruning.dynamic_depth import DynamicDepth
from pruninfersim.pruning.dynamic_width import DynamicWidth
from pruninfersim.pruning.early_exit import EarlyExit
from pruninfersim.pruning.experts import ExpertPruning
from pruninfersim.pruning.kv_eviction import KVEviction
from pruninfersim.pruning.kv_selection import KVSelection
from pruninfersim.pruning.low_rank import LowRank
from pruninfersim.pruning.prefill_depth import PrefillDepth
from pruninfersim.pruning.prefill_selection import PrefillSelection
from pruninfersim.pruning.ratios import LARGEST, Ratio
from pruninfersim.pruning.semi_structured import SemiStructured
from pruninfersim.pruning.sparse_attention import SparseAttention
from pruninfersim.pruning.static_depth import StaticDepth
from pruninfersim.pruning.static_width import StaticWidth
from pruninfersim.pruning.static_width_cross import StaticWidthCross
from pruninfersim.pruning.token_merging import TokenMerging
from pruninfersim.pruning.token_pruning import TokenPruning
from pruninfersim.pruning.unstructured import Unstructured
from pruninfersim.pruning.vocabulary import Vocabulary
from pruninfersim.trace import OpTrace, PruningMethod, trace
from pruninfersim.workload import Workload

#: Name -> class. A method of your own needs no entry here: pass the object itself. Whoever works through all methods
#: takes them as an argument, or names those that it is about.
METHODS: dict[str, Any] = {
    method.name: method
    for method in (StaticDepth, LowRank, SemiStructured, StaticWidth, StaticWidthCross, DynamicDepth, SparseAttention)
}

#: Further methods that have a name. "all" does not mean them: it is the seven families that arXiv 2606.09080 compares.
MORE: dict[str, Any] = {
    method.name: method
    for method in (
        KVEviction, KVSelection, PrefillSelection, Unstructured, DynamicWidth, ActivationSparsity, TokenPruning,
        TokenMerging, EarlyExit, Vocabulary, ExpertPruning, PrefillDepth,
    )
}  # fmt: skip
#: Every method that has a name; what joins one of the two is found here too.
EVERY: Mapping[str, Any] = ChainMap(METHODS, MORE)

#: Between methods that are applied in order, in one name.
THEN = "+"
#: A name, a class, a method, or several of them that are applied in order.
Method: TypeAlias = "str | type[Any] | PruningMethod | Sequence[str | type[Any] | PruningMethod]"


@doors
@dataclass(frozen=True, eq=False)
class Composed:
    """Several methods, applied in order.

    Attributes
    ----------
    methods : tuple of PruningMethod

    >>> Composed((StaticDepth(0.25), SemiStructured())).name
    'static-depth + semi-structured'
    """

    methods: tuple[PruningMethod, ...]

    @property
    def name(self) -> str:
        """Names of the methods, in order."""
        return " + ".join(method.name for method in self.methods)

    @property
    def largest(self) -> float:
        """The largest sparsity that all of those can do which have one [1]."""
        return min((reach for method in self.methods if (reach := largest(method)) > 0.0), default=0.0)

    def apply(self, trace: OpTrace) -> OpTrace:
        """Return the trace after all methods."""
        return trace.prune(*self.methods)


@door
def get(name: str, sparsity: Ratio, *, registry: Mapping[str, Any] = EVERY, **options: Any) -> PruningMethod:
    """Return the method called `name` at a sparsity.

    Parameters
    ----------
    name : str
        Registered name in any spelling, or that of a method from a paper, such as ``"SliceGPT"``, which stands for its
        family (`pruninfersim.pruning.aliases.FAMILIES`).
    sparsity : Ratio
        Fraction removed [1].
    registry : mapping of str to class, optional
    **options
        Of the method.

    Warns
    -----
    NameWarning
        Once for each method from a paper: which family it was taken for.

    Raises
    ------
    UnknownNameError
        If no method has this name.
    InvalidInputError
        If the sparsity is outside of what the method can remove.

    >>> get("low-rank", 0.5).name
    'low-rank'
    """
    known = name if name in registry else aliases.find(name, registry)
    method: PruningMethod = registry[known](sparsity, **options)
    return method


@door
def names(*, every: bool = False) -> list[str]:
    """Return the names of the methods that "all" means, in the order of the taxonomy.

    Parameters
    ----------
    every : bool
        Whether to name all others too.

    >>> names()[0], len(names()), "kv-eviction" in names(every=True)
    ('static-depth', 7, True)
    """
    return list(METHODS) + [name for name in MORE if every and name not in METHODS]


@door
def resolve(method: Method, sparsity: Ratio | None = None) -> PruningMethod:
    """Return the method that an argument stands for.

    Parameters
    ----------
    method : str, method class or object, or a sequence of them
        A sequence is a composition, in that order, and so are names with "+" between. ``quantized:int4`` stands for
        `Quantized`, see `pruninfersim.pruning.quantized.read`.
    sparsity : Ratio, optional
        Of every method that is given by name or class and has one; needed there, and refused where there is none.

    Raises
    ------
    UnknownNameError
        If no method has this name.
    InvalidInputError
        If a sparsity is missing or has no method to go to, or nothing of the
        kind is given.

    >>> resolve(["static-depth", SemiStructured()], 0.25).name
    'static-depth + semi-structured'
    >>> resolve("quantized:int4+static-width", 0.25).name
    'quantized:int4 + static-width'
    """
    if isinstance(method, str) and THEN in method:
        return resolve([part.strip() for part in method.split(THEN)], sparsity)
    if isinstance(method, str) and quantized.named(method):
        if sparsity is not None:
            raise InvalidInputError(f"{method} has no sparsity; leave it out, or add a method that has one with +")
        return quantized.read(method)
    if isinstance(method, str):
        if sparsity is None:
            raise InvalidInputError(f"method {shown(method)} needs a sparsity, for instance sparsity=0.5")
        return get(method, sparsity)
    if isinstance(method, type):
        if sparsity is None:
            raise InvalidInputError(
                f"the class {method.__name__} needs a sparsity: {method.__name__}(0.5), or sparsity=0.5 beside it"
            )
        made: PruningMethod = method(sparsity)
        return made
    if hasattr(method, "apply") and hasattr(method, "name"):
        if sparsity is not None:
            raise InvalidInputError("give the sparsity inside the method object, or name the method; not both")
        return method
    if isinstance(method, Iterable):
        several = list(method)
        named = any(takes_sparsity(each) for each in several)
        if not several or (sparsity is not None and not named):
            what = "no method" if not several else "a sparsity for no name"
            raise InvalidInputError(f"{what} in the sequence of methods; give names with a sparsity, or method objects")
        found = tuple(resolve(each, sparsity if takes_sparsity(each) else None) for each in several)
        return found[0] if len(found) == 1 else Composed(found)
    raise InvalidInputError(
        f"method must be a name ({', '.join(EVERY)}, {quantized.NAME}), a method object, or a sequence of them; "
        f"got {shown(method)}"
    )


@door
def takes_sparsity(method: Method) -> bool:
    """Return whether a method, or a part of a composition, is given by name, so that it takes a sparsity from outside.

    >>> takes_sparsity("low-rank"), takes_sparsity(["low-rank", SemiStructured()]), takes_sparsity(SemiStructured())
    (True, True, False)
    >>> takes_sparsity("quantized:int4"), takes_sparsity("quantized+low-rank")
    (False, True)
    """
    if isinstance(method, str):
        return not all(quantized.named(part) for part in method.split(THEN))
    if isinstance(method, type):
        return method is not quantized.Quantized
    several = isinstance(method, Iterable) and not hasattr(method, "apply")
    return several and any(takes_sparsity(each) for each in method)  # type: ignore[union-attr]


@door
def at(method: Method, sparsity: Ratio) -> PruningMethod:
    """Return the method that an argument stands for, at a sparsity if it takes one; errors as `resolve`.

    >>> at(SemiStructured(0.25), 0.5).sparsity, at("low-rank", 0.5).sparsity
    (0.25, 0.5)
    """
    return resolve(method, sparsity if takes_sparsity(method) else None)


@door
def largest(method: Any) -> float:
    """Return the largest sparsity that a method (a class or an object) says it can do [1].

    >>> largest(SemiStructured), largest(StaticDepth) > 0.99
    (0.5, True)
    """
    return float(getattr(method, "largest", LARGEST))


@door
def unfit(
    method: Any,
    sparsity: ArrayLike | None = None,
    hardware: HardwareProfile | None = None,
    dtype: str = "bf16",
    model: ModelConfig | None = None,
) -> str:
    """Return why a method (a class or an object) cannot do what is asked, or an empty text if it can.

    Parameters
    ----------
    sparsity : array_like, optional
        Fractions removed [1].
    hardware, dtype : optional
        GPU and precision of the linear layers: a method may need a rate that the GPU has to have.
    model : ModelConfig, optional
        A method may be about ops that not every model has (`ExpertPruning`).

    Raises
    ------
    InvalidInputError
        If a sparsity is outside of [0, 1), which no method can do.

    >>> unfit(SemiStructured, 0.75)
    'semi-structured removes at most 0.5'
    """
    if sparsity is not None and np.any(checked("sparsity", sparsity, minimum=0, below=1) > largest(method)):
        return f"{method.name} removes at most {largest(method):g}"
    table = getattr(method, "needs", "")
    if table == "peak_2of4" and dtype in precision.DENSE_ONLY:
        return f"{method.name}: {no_kernel('2:4', dtype)}"
    if hardware is not None and table and precision.rate(dtype) not in getattr(hardware, table):
        return f"{method.name} needs {table} for {dtype}, which {hardware.name} does not have"
    key = getattr(method, "prunes", "")
    if model is not None and key and key not in trace(model, Workload.decode()).kernel:
        return f"{method.name} needs a model with {key} ops, which {model.name} has none of"
    return ""
