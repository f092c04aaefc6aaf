"""One vocabulary: the keywords of a question, the same in every function, and what to say instead of another word."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypedDict

from numpy.typing import ArrayLike

from pruninfersim._util.words import refuse
from pruninfersim.cost import CostModel
from pruninfersim.errors import InvalidInputError
from pruninfersim.hardware import HardwareProfile
from pruninfersim.models import ModelConfig
from pruninfersim.pruning import Method, Ratio
from pruninfersim.stacks import Stack
from pruninfersim.workload import Logits, Workload


class Question(TypedDict, total=False):
    """The keywords of a question about one model on one GPU, as `pruninfersim.speedup` explains them."""

    model: str | ModelConfig
    hardware: str | HardwareProfile
    method: Method
    sparsity: Ratio | None
    phase: str
    batch: ArrayLike
    context: ArrayLike
    stack: str | Stack | CostModel
    dtype: str | None
    logits: Logits | None
    workload: Workload
    tp: int
    ep: int


#: Keywords of a question, in the order in which a reader meets them.
KEYWORDS = tuple(Question.__annotations__)


def asked(function: str, question: Mapping[str, Any], known: Iterable[str] = KEYWORDS) -> dict[str, Any]:
    """Return the keywords that were given, those that are None left out; `refuse` those that no question has.

    >>> asked("explain", {"batch": 16, "dtype": None})
    {'batch': 16}
    """
    words = set(known)
    refuse(function, [name for name in question if name not in words], known)
    return {name: value for name, value in question.items() if value is not None}


def needs_method(method: Any, sparsity: Any) -> None:
    """Raise one clear line for a sparsity that no method takes.

    Raises
    ------
    InvalidInputError
        If there is a sparsity and no method.

    >>> needs_method(None, 0.5)
    Traceback (most recent call last):
    pruninfersim.errors.InvalidInputError: a sparsity needs a method=..., for instance method='static-width'
    """
    if method is None and sparsity is not None:
        raise InvalidInputError("a sparsity needs a method=..., for instance method='static-width'")


def is_list(value: object) -> bool:
    """Return whether a value stands for several: a list, a tuple, a set, an array or a column of a frame.

    >>> is_list(["l40s"]), is_list("l40s")
    (True, False)
    """
    return isinstance(value, list | tuple | set | frozenset) or getattr(value, "ndim", 0) > 0


def one_only(function: str, **given: Any) -> None:
    """Raise one clear line where a list stands for something that a question has one of.

    Raises
    ------
    InvalidInputError
        If there is a list.

    >>> one_only("break_even", hardware=["l40s", "h100-sxm"])
    Traceback (most recent call last):
    pruninfersim.errors.InvalidInputError: break_even takes one hardware, not a list; ask once for each, or use ...
    """
    for name, value in given.items():
        if is_list(value):
            raise InvalidInputError(
                f"{function} takes one {name}, not a list; ask once for each, or use speedup or sweep, which take lists"
            )
