"""Numbers as people write them: ``8k``, ``50%``."""

from __future__ import annotations

import math
import re

#: Suffixes of token counts: 8k of context are 8192 tokens.
BINARY = {"": 1, "k": 1024, "m": 1024**2}


def count(text: str) -> int:
    """Return a whole number such as ``2048``, ``8k`` or ``1e4``.

    >>> count("8k"), count("2048")
    (8192, 2048)
    """
    match = re.fullmatch(r"(-?\d+(?:\.\d+)?(?:e\d+)?)\s*([km]?)", text.lower())
    if match is None or re.match(r"-?0\d", text):
        raise ValueError(f"{text!r} is not a whole number such as 2048 or 8k (without separators)")
    value = float(match[1]) * BINARY[match[2]]
    if not math.isfinite(value) or value != int(value):
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
        hint = f". Did you mean {value:g}%?" if number == text and value < 100 else ""
        raise ValueError(f"sparsity must be in [0, 1); got {value:g}{hint}")
    return value
