"""The rows of the controls in which methods are chosen, to and from their spelling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pruninfersim.app.state import MOST_METHODS, spelled
from pruninfersim.errors import PruninfersimError
from pruninfersim.pruning import spelling

#: Whether a method is compared with the one above, or applied after it.
BESIDE, AFTER = "beside", "after"
#: A row in which nothing was chosen yet.
FRESH = "0.5"


class Row(NamedTuple):
    """A method with its ratios as they are written, and how it joins the row above."""

    join: str = BESIDE
    name: str = ""
    sparsity: str = FRESH
    mlp: str = ""


def of_methods(methods: Sequence[str]) -> list[Row]:
    """Return the rows that stand for methods, and empty ones up to `MOST_METHODS`.

    >>> of_methods(["static-depth@0.25+static-width@0.2/0.4"])[:2]
    [Row(join='beside', name='static-depth', sparsity='0.25', mlp=''),
     Row(join='after', name='static-width', sparsity='0.2', mlp='0.4')]
    """
    rows = [
        Row(AFTER if i else BESIDE, part.name, f"{part.sparsity:.12g}", "" if part.mlp is None else f"{part.mlp:.12g}")
        for method in methods
        for i, part in enumerate(spelling.parts(method))
    ]
    return (rows + [Row()] * MOST_METHODS)[:MOST_METHODS]


def to_methods(rows: Sequence[Row]) -> tuple[list[str], dict[str, str], list[int]]:
    """Return methods as they are spelled, what is wrong, row by row, and the row in which each method begins.

    >>> to_methods([Row(name="static-width", sparsity="0.5"), Row(AFTER, "low-rank", "half")])[:2]
    (['static-width@0.5'], {'methods.1': "low-rank@half: 'half' is not a fraction such as 0.5 or 50%"})
    """
    methods: list[str] = []
    begins: list[int] = []
    errors: dict[str, str] = {}
    for i, row in enumerate(rows):
        if not row.name:
            continue
        ratio = row.sparsity.strip() + (f"{spelling.APART}{row.mlp.strip()}" if row.mlp.strip() else "")
        try:
            one = spelled(f"{row.name}{spelling.AT}{ratio}")
        except (PruninfersimError, ValueError) as error:
            errors[f"methods.{i}"] = str(error)
            continue
        if row.join == AFTER and methods:
            methods[-1] += spelling.THEN + one
        else:
            methods.append(one)
            begins.append(i)
    return methods, errors, begins
