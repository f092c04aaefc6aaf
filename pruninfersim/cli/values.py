"""Values of options as people write them: lists with commas, ``8k``, ``50%``."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import typer

from pruninfersim._util.numerals import count, fraction
from pruninfersim.errors import InvalidInputError, shown

__all__ = [
    "count",
    "fraction",
    "methods",
    "number",
    "output_file",
    "prices",
    "quantity",
    "ratio",
    "read",
    "several",
    "write",
]

T = TypeVar("T")
#: Units of times and of memory, in SI units; an x stands behind a speedup.
UNITS = {
    "": 1.0,
    "x": 1.0,
    "s": 1.0,
    "ms": 1e-3,
    "us": 1e-6,
    "B": 1.0,
    "MB": 1e6,
    "GB": 1e9,
    "MiB": 2**20,
    "GiB": 2**30,
}


def several(given: Iterable[str]) -> list[str]:
    """Return the values of an option that takes a list: commas and repetition alike, each value once.

    >>> several(["a,b", " c", "a"])
    ['a', 'b', 'c']
    """
    parts = [part.strip() for text in given for part in text.split(",")]
    return list(dict.fromkeys(part for part in parts if part))


def read(option: str, given: Iterable[str], one: Callable[[str], T]) -> list[T]:
    """Return the values of an option, each read by `one`; at least one.

    Raises
    ------
    InvalidInputError
        If there is none, or one cannot be read; the message names the option.
    """
    texts = several(given)
    if not texts:
        raise InvalidInputError(f"{option} needs a value")
    values = []
    for text in texts:
        try:
            values.append(one(text))
        except ValueError as error:
            raise InvalidInputError(f"{option}: {error}") from None
    return list(dict.fromkeys(values))


def number(text: str) -> float:
    """Return a number, as of a price or a target.

    >>> number("1.5"), number("1.5x")
    (1.5, 1.5)
    """
    try:
        return float(text.lower().removesuffix("x"))
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None


def quantity(text: str) -> float:
    """Return a number in SI units from one that may have a unit: of time (s, ms, us) or of memory (GB, GiB ...).

    >>> quantity("20ms"), quantity("16GB"), quantity("1.5x"), quantity("3")
    (0.02, 16000000000.0, 1.5, 3.0)
    """
    match = re.fullmatch(r"(.*?\d\.?)\s*([a-zA-Z]*)", text.strip())
    if match is None or match[2] not in UNITS:
        raise ValueError(f"{text!r} is not a number, or one with a unit among {', '.join(filter(None, UNITS))}")
    return number(match[1]) * UNITS[match[2]]


def ratio(text: str) -> Any:
    """Return a fraction removed, or those per layer of a CSV or JSON file, see `pruninfersim.pruning.tables`.

    >>> ratio("50%")
    0.5
    """
    if not text.lower().endswith((".csv", ".json")):
        return fraction(text)
    from pruninfersim.pruning.tables import read_ratios

    return read_ratios(text)


def prices(given: Iterable[str]) -> dict[str, float]:
    """Return prices per hour by GPU, from ``NAME=PRICE``.

    >>> prices(["h100-sxm=2.5,l40s=0.9"])
    {'h100-sxm': 2.5, 'l40s': 0.9}
    """
    from pruninfersim import hardware

    found = {}
    for text in several(given):
        gpu, equals, price = text.partition("=")
        if not equals:
            raise InvalidInputError(f"--price: {text!r} is not GPU=PRICE, such as h100-sxm=2.5")
        found[hardware.get(gpu.strip()).name] = read("--price", [price], number)[0]
    return found


def methods(given: Sequence[str]) -> list[Any]:
    """Return pruning methods: names with commas, "a+b" for one after the other, "a@0.5" with a ratio of its own.

    ``quantized:int4`` is a model in 4 bit; see `pruninfersim.pruning.quantized.read`.

    >>> methods(["low-rank,static-depth+semi-structured"])
    ['low-rank', ('static-depth', 'semi-structured')]
    >>> methods(["static-width@0.25/0.5"])[0].sparsity
    PerBlock(attention=0.25, mlp=0.5)
    >>> methods(["quantized:int4+static-width"])[0][0].dtype
    'int4_wo'
    """
    from pruninfersim.pruning import quantized, spelling

    parts = [tuple(name.strip() for name in text.split("+") if name.strip()) for text in several(given)]

    def one(name: str) -> Any:
        return spelling.read(name) if "@" in name else quantized.read(name) if quantized.named(name) else name

    read = [tuple(one(name) for name in names) for names in parts if names]
    if given and not read:
        raise InvalidInputError("--method needs a name such as static-width, or several with commas")
    return [names[0] if len(names) == 1 else names for names in read]


def output_file(given: str, option: str = "--out") -> Path | None:
    """Return the file that an option names, or None for standard output, after checking that it can be written.

    Called before the work, so that an hour of it is not lost to a misspelt folder.

    Raises
    ------
    InvalidInputError
        If it is empty, a folder, in a folder that does not exist, or may not be written.

    >>> output_file("-") is None
    True
    """
    from pruninfersim._util.files import check_place

    path = Path(given)
    problem = ""
    if not given.strip():
        problem = "the name is empty; give a file, or - for standard output"
    elif given == "-":
        return None
    elif os.path.isdir(path):
        problem = "it is a folder; give a file in it"
    elif not os.path.isdir(path.parent):
        problem = f"there is no folder {path.parent}"
    if problem:
        raise InvalidInputError(f"{option}: cannot write {shown(given)}: {problem}")
    check_place(path)
    return path


def write(path: Path | None, text: str) -> None:
    """Write a text to a file, or to standard output."""
    from pruninfersim._util.files import write_text

    if path is None:
        typer.echo(text, nl=not text.endswith("\n"))
    else:
        write_text(path, text)
        typer.echo(f"wrote {path}")
