"""Values of options as people write them: lists with commas, ``8k``, ``50%``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import typer

from pruninfersim.errors import InvalidInputError

T = TypeVar("T")
#: Suffixes of token counts: 8k of context are 8192 tokens.
BINARY = {"": 1, "k": 1024, "m": 1024**2}


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


def count(text: str) -> int:
    """Return a whole number such as ``2048``, ``8k`` or ``1e4``.

    >>> count("8k"), count("2048")
    (8192, 2048)
    """
    match = re.fullmatch(r"(-?\d+(?:\.\d+)?(?:e\d+)?)\s*([km]?)", text.lower())
    if match is None or re.match(r"-?0\d", text):
        raise ValueError(f"{text!r} is not a whole number such as 2048 or 8k (without separators)")
    value = float(match[1]) * BINARY[match[2]]
    if value != int(value):
        raise ValueError(f"{text!r} is not a whole number")
    return int(value)


def fraction(text: str) -> float:
    """Return a fraction such as ``0.5`` or ``50%``.

    >>> fraction("50%"), fraction(".25")
    (0.5, 0.25)
    """
    number = text.removesuffix("%").strip()
    try:
        value = float(number) / (100 if number != text else 1)
    except ValueError:
        raise ValueError(f"{text!r} is not a fraction such as 0.5 or 50%") from None
    if value > 1:
        raise ValueError(f"sparsity must be in [0, 1); got {value:g}. Did you mean {value:g}%?")
    return value


def number(text: str) -> float:
    """Return a number, as of a price or a target.

    >>> number("1.5"), number("1.5x")
    (1.5, 1.5)
    """
    try:
        return float(text.lower().removesuffix("x"))
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None


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


def methods(given: Sequence[str]) -> list[str | tuple[str, ...]]:
    """Return pruning methods: names with commas, "a+b" for one after the other.

    >>> methods(["low-rank,static-depth+semi-structured"])
    ['low-rank', ('static-depth', 'semi-structured')]
    """
    parts = [tuple(name.strip() for name in text.split("+") if name.strip()) for text in several(given)]
    found: list[str | tuple[str, ...]] = [names[0] if len(names) == 1 else names for names in parts if names]
    if given and not found:
        raise InvalidInputError("a list of methods holds none; give names such as static-width, with commas")
    return found


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
    import os

    path = Path(given)
    problem = ""
    if not given.strip():
        problem = "the name is empty; give a file, or - for standard output"
    elif given == "-":
        return None
    elif path.is_dir():
        problem = "it is a folder; give a file in it"
    elif not path.parent.is_dir():
        problem = f"there is no folder {path.parent}"
    elif not os.access(path if path.exists() else path.parent, os.W_OK):
        problem = "permission denied"
    if problem:
        raise InvalidInputError(f"{option}: cannot write {given!r}: {problem}")
    return path


def write(path: Path | None, text: str) -> None:
    """Write a text to a file, or to standard output."""
    from pruninfersim._util.files import write_text

    if path is None:
        typer.echo(text, nl=not text.endswith("\n"))
    else:
        write_text(path, text)
        typer.echo(f"wrote {path}")
