"""Words of Python in messages of the library -> what a person at a terminal would type instead."""

from __future__ import annotations

import re

_WORDS = (
    (r"the list of ops shows which", "`pruninfersim trace` shows which ops"),
    (r"give names with a sparsity, or method objects", "give names, see `pruninfersim methods`"),
    (r"say which to take$", "say which to take with --gpu"),
    (r"Give the profile of one of them", "Say so with --gpu, or leave it out"),
    (r"\bsparsity=(\d)", r"--sparsity \1"),
    (r"\bdtype=(?:\.\.\.|\"\w+\"|'\w+')", "--dtype"),
    (r"; give arrays of equal shape, or add axes with \[:, None\]", ""),
    (r"hardware\.get\b|models\.get\b", "the name"),
    (r" Add one with CostModel\.with_kernel", ""),
)


def shell_words(text: str) -> str:
    """Return a message of the library in the words of the command line.

    >>> shell_words("their ratio may be biased; the list of ops shows which")
    'their ratio may be biased; `pruninfersim trace` shows which ops'
    """
    for pattern, words in _WORDS:
        text = re.sub(pattern, words, text)
    return text
