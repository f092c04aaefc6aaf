"""Who asks: where the caller of a public function stands, and whether someone reads what it shows."""

from __future__ import annotations

import builtins
import sys

PACKAGE = __name__.partition(".")[0]


def interactive() -> bool:
    """Return whether someone types at a prompt or in a notebook, where a result shows its notes itself.

    >>> interactive()
    False
    """
    return hasattr(sys, "ps1") or hasattr(builtins, "__IPYTHON__")


def outside_of_package() -> int:
    """Return the stacklevel, for a warning in the function that calls this, of the first frame of another package.

    >>> outside_of_package() >= 1
    True
    """
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).partition(".")[0] == PACKAGE:
        frame, level = frame.f_back, level + 1
    return level
