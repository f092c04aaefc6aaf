"""The one exception family of the library: every error a user can cause is a `PruninfersimError`.

Each message says what was wrong, what is allowed, and what to try.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "ConformanceError",
    "FileFormatError",
    "InvalidInputError",
    "LeftOutWarning",
    "MissingValueError",
    "ProvenanceWarning",
    "PruninfersimError",
    "UnknownNameError",
    "unknown_name",
]


def __dir__() -> list[str]:
    return sorted(__all__)


class PruninfersimError(Exception):
    """Base class of every error that this library raises on purpose."""


class InvalidInputError(PruninfersimError, ValueError):
    """A value is outside what is allowed (sparsity of 1.2, a negative shape, a NaN)."""


class UnknownNameError(PruninfersimError, KeyError):
    """A name is not registered (model, GPU, method, stack, dtype)."""

    def __str__(self) -> str:  # KeyError would print the repr of the message
        return str(self.args[0])


class MissingValueError(PruninfersimError, LookupError):
    """A profile lacks the figure that a question needs (for instance an fp8 peak)."""


class FileFormatError(PruninfersimError, ValueError):
    """A file (JSON, TOML, CSV) cannot be understood; the message names file and place."""


class ConformanceError(PruninfersimError):
    """A pruning method or kernel model breaks the contract that `pruninfersim.testing` checks."""


class ProvenanceWarning(UserWarning):
    """Two sides of a comparison do not rest on the same kind of evidence."""


class LeftOutWarning(UserWarning):
    """A method that nobody named was left out, because it cannot do what is asked."""


def unknown_name(kind: str, name: object, known: Iterable[str]) -> UnknownNameError:
    """Return (not raise) the error for an unknown name, with the nearest known one.

    >>> print(unknown_name("method", "static-widht", ["static-width", "low-rank"]))
    unknown method 'static-widht'. Did you mean 'static-width'? Known: low-rank, static-width.
    """
    names = sorted(known)
    near = difflib.get_close_matches(str(name).lower(), names, n=1, cutoff=0.6)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return UnknownNameError(f"unknown {kind} {name!r}.{hint} Known: {', '.join(names)}.")
