"""Names of methods as papers and people write them -> the family whose shapes they have.

A family says what a method does to the shapes of a model, which is all that its speed depends on; which weights go is
the method's own affair, and that of its quality.
"""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Iterable
from functools import cache

from pruninfersim.errors import NameWarning, unknown_name

#: Family -> methods of that family, as their papers call them (and what others call the family).
FAMILIES: dict[str, tuple[str, ...]] = {
    "static-depth": (
        "ShortGPT", "Shortened LLaMA", "BlockPruner", "CoopPruner", "SLEB", "LaCo", "LLM-Streamline", "FinerCut",
        "layer dropping", "depth",
    ),
    "low-rank": ("SVD-LLM", "SVD-LLM V2", "Dobi-SVD", "ASVD", "FWSVD", "SVD"),
    "semi-structured": ("SparseGPT", "Wanda", "MaskLLM", "RIA", "Pruner-Zero", "2:4", "N:M", "2 of 4"),
    "static-width": (
        "FLAP", "LLM-Pruner", "Tyr-the-Pruner", "Wanda-sp", "LoRAPrune", "SlimGPT", "ZipLM", "structured", "width",
    ),
    "static-width-cross": ("SliceGPT",),
    "dynamic-depth": ("SkipGPT", "MoD", "Mixture-of-Depths", "D-LLM"),
    "sparse-attention": (
        "SeerAttention", "BLASST", "MoBA", "NSA", "XAttention", "FlexPrefill", "block-sparse attention",
    ),
    # Below, those that the options of the class stand for as they are; SnapKV, H2O, CATS … need one of their own.
    "kv-eviction": ("StreamingLLM",),
    "kv-selection": ("Quest",),
    "unstructured": ("SpInfer",),
    "dynamic-width": ("WIDE",),
    "activation-sparsity": ("TEAL", "WINA"),
    "token-pruning": ("FastV",),
    "token-merging": ("ToMe",),
    "early-exit": ("CALM",),
    "prefill-depth": ("POP",),
    "expert-pruning": ("REAP",),
}  # fmt: skip
#: What the family of a method leaves out of it.
CAVEATS = {
    "semi-structured": "in its 2:4 form: weights that are zero anywhere make no dense kernel faster",
}


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


_FAMILY = {_plain(alias): (family, alias) for family, aliases in FAMILIES.items() for alias in aliases}


def find(name: str, known: Iterable[str]) -> str:
    """Return the registered name of a method: another spelling of it, or the family of a method from a paper.

    Parameters
    ----------
    name : str
    known : iterable of str
        The registered names.

    Raises
    ------
    UnknownNameError
        If there is no such method, with the nearest.

    Warns
    -----
    NameWarning
        Once for each method from a paper: which family it was taken for.

    >>> find("Static Width", ["static-width", "low-rank"])
    'static-width'
    >>> import warnings
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     find("LLM-Pruner", ["static-width", "low-rank"])
    'static-width'
    """
    registered = {_plain(own): own for own in known}
    plain = _plain(str(name))
    if plain in registered:
        return registered[plain]
    family, alias = _FAMILY.get(plain, ("", ""))
    if family not in registered.values():
        raise unknown_name("method", name, registered.values(), near=_near(plain, registered))
    _say(alias, family)
    return family


def _near(plain: str, registered: dict[str, str]) -> list[str]:
    """Return the method, registered or from a paper, that is spelled almost alike."""
    close = difflib.get_close_matches(plain, [*registered, *_FAMILY], n=1, cutoff=0.6)
    return [registered[each] if each in registered else _FAMILY[each][1] for each in close]


@cache
def _say(alias: str, family: str) -> None:
    """Warn once which family a name was taken for."""
    caveat = f", {CAVEATS[family]}" if family in CAVEATS else ""
    warnings.warn(f"{alias} is taken for its family, {family}{caveat}", NameWarning, stacklevel=4)
