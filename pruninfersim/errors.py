"""The one exception family of the library: every error a user can cause is a `PruninfersimError`.

Each message says what was wrong, what is allowed, and what to try.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "CannotWriteError",
    "ConformanceError",
    "DamagedPartWarning",
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


#: Longest quotation of something that was given, in characters.
QUOTED = 120
#: Longest message, in characters: a path of 4096 characters is quoted by its ends.
LONGEST = 1000


class PruninfersimError(Exception):
    """Base class of every error that this library raises on purpose.

    Its message is one line of at most `LONGEST` characters, whatever was quoted in it.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*(one_line(text, LONGEST) if isinstance(text, str) else text for text in args))


def one_line(text: str, longest: int) -> str:
    """Return a text as one printable line; of a longer one the two ends.

    >>> one_line("first\\nsecond", 40), one_line("0123456789" * 9, 25)
    ('first second', '0123456789 ... 0123456789')
    """
    if len(text) > 2 * longest:
        text = f"{text[:longest]} {text[-longest:]}"
    plain = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    half = (longest - 5) // 2
    return plain if len(plain) <= longest else f"{plain[:half]} ... {plain[-half:]}"


def shown(value: object) -> str:
    """Return what a message quotes of something that was given: its repr as one short line, whatever that does.

    >>> shown("l40s"), shown(10**5000), len(shown("x" * 9999)) <= QUOTED
    ("'l40s'", 'int', True)
    """
    try:
        return one_line(repr(value), QUOTED)
    except Exception:  # of an object that nobody here wrote
        return type(value).__name__


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


class CannotWriteError(PruninfersimError, OSError):
    """A file of a sweep cannot be written: a full disk, a folder that is read-only or gone."""


class ConformanceError(PruninfersimError):
    """A pruning method or kernel model breaks the contract that `pruninfersim.testing` checks."""


class NameWarning(UserWarning):
    """A name was taken for another one, such as that of a paper for its family."""


class ProvenanceWarning(UserWarning):
    """Two sides of a comparison do not rest on the same kind of evidence."""


class DamagedPartWarning(UserWarning):
    """Parts of a sweep on disk were not as they had been written, and have been evaluated again."""


class LeftOutWarning(UserWarning):
    """A method that nobody named was left out, because it cannot do what is asked."""


#: Up to so many names are listed in a message; longer lists are named, not printed.
LISTED = 16


def unknown_name(
    kind: str, name: object, known: Iterable[str], *, near: Iterable[str] | None = None, listing: str = ""
) -> UnknownNameError:
    """Return (not raise) the error for an unknown name, with the nearest known one.

    Parameters
    ----------
    kind : str
        What it is a name of, such as "GPU".
    name : object
        What was given.
    known : iterable of str
    near : iterable of str, optional
        What may have been meant; default is the name that is spelled most alike.
    listing : str
        Where a long list of names is found; short lists are part of the message.

    >>> print(unknown_name("method", "static-widht", ["static-width", "low-rank"]))
    unknown method 'static-widht'. Did you mean 'static-width'? Known: low-rank, static-width.
    """
    names = sorted(known)
    given = shown(name) if not isinstance(name, str) else name
    close = (
        list(near) if near is not None else difflib.get_close_matches(given[:QUOTED].lower(), names, n=1, cutoff=0.6)
    )
    hint = f" Did you mean {' or '.join(repr(each) for each in close)}?" if close else ""
    if listing and len(names) > LISTED:
        return UnknownNameError(f"unknown {kind} {shown(name)}.{hint} {listing}.")
    return UnknownNameError(f"unknown {kind} {shown(name)}.{hint} Known: {', '.join(names)}.")
