"""Methods with their ratios as one word: ``low-rank@0.5``, ``low-rank@0.2/0.5``, ``static-depth@0.2+low-rank@0.5``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pruninfersim._util.numerals import fraction
from pruninfersim.errors import InvalidInputError
from pruninfersim.pruning import aliases, quantized
from pruninfersim.pruning.ratios import Axis, PerBlock, Ratio
from pruninfersim.pruning.registry import EVERY, Composed
from pruninfersim.trace import PruningMethod

#: Between a name and its ratio, between the ratios of attention and MLP, between methods that are applied in order.
AT, APART, THEN = "@", "/", "+"


@dataclass(frozen=True)
class Part:
    """A method by its name, with a ratio for all or one for attention and one for the MLP.

    Attributes
    ----------
    name : str
    sparsity : float
        Fraction removed, of attention if the MLP has its own [1].
    mlp : float, optional
        Fraction removed of the MLP [1].
    """

    name: str
    sparsity: float
    mlp: float | None = None

    def __str__(self) -> str:
        both = f"{self.sparsity:.12g}" if self.mlp is None else f"{self.sparsity:.12g}{APART}{self.mlp:.12g}"
        return f"{self.name}{AT}{both}"

    @property
    def most(self) -> float:
        """The larger of the two ratios [1]."""
        return self.sparsity if self.mlp is None else max(self.sparsity, self.mlp)

    def method(self, scale: ArrayLike | None = None) -> PruningMethod:
        """Return the method; with a scale of shape (*sweep), at its ratios times the scale.

        Raises
        ------
        InvalidInputError
            If a ratio is outside of what the method can remove, or it has no ratio per block.
        """

        def ratio(value: float) -> Ratio:
            return value if scale is None else Axis(value * np.asarray(scale, dtype=float))

        whole = ratio(self.sparsity) if self.mlp is None else PerBlock(ratio(self.sparsity), ratio(self.mlp))
        made: PruningMethod = EVERY[self.name](whole)
        return made


def parts(text: str) -> tuple[Part, ...]:
    """Return the methods that a text names, in order.

    Raises
    ------
    UnknownNameError
        If no method has one of the names.
    InvalidInputError
        If a ratio is missing or is not a fraction.

    >>> parts("static-depth@0.25+static-width@25%/0.5")
    (Part(name='static-depth', sparsity=0.25, mlp=None), Part(name='static-width', sparsity=0.25, mlp=0.5))
    """
    return tuple(_part(piece.strip()) for piece in text.split(THEN))


def _part(text: str) -> Part:
    name, at, ratio = text.partition(AT)
    if at and quantized.named(name):
        raise InvalidInputError(f"{text}: quantized has no ratio; name its format, such as quantized:int4")
    if not at or not name.strip():
        raise InvalidInputError(f"{text!r} is not a method with a ratio, such as static-width@0.5")
    known = name.strip() if name.strip() in EVERY else aliases.find(name.strip(), EVERY)
    try:
        numbers = [fraction(number.strip()) for number in ratio.split(APART)]
    except ValueError as error:
        raise InvalidInputError(f"{text}: {error}") from None
    if len(numbers) > 2:
        raise InvalidInputError(f"{text}: at most two ratios, of attention and of the MLP")
    return Part(known, *numbers)


def read(text: str) -> PruningMethod:
    """Return the method, or composition, that a text names; errors as `parts`, and as the methods raise them.

    >>> read("static-depth@0.25+semi-structured@0.5").name
    'static-depth + semi-structured'
    """
    return combined(parts(text))


def combined(several: tuple[Part, ...], scale: ArrayLike | None = None) -> PruningMethod:
    """Return one method, or several as a composition, their ratios times a scale of shape (*sweep)."""
    methods: tuple[Any, ...] = tuple(part.method(scale) for part in several)
    return methods[0] if len(methods) == 1 else Composed(methods)
