"""Names of models as people and the Hugging Face hub write them: organisation, case, and what was trained on top.

A chat or instruction-tuned checkpoint has the shapes of its base model, so that ``meta-llama/Llama-3.1-8B-Instruct``
means ``llama-3.1-8b``. Anything else that a name adds (``AWQ``, ``128k``, another size) is another model.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

from pruninfersim.errors import UnknownNameError, shown, unknown_name

#: Where all names are listed, for messages.
LISTING = "`pruninfersim models` lists all; a config.json works, too"
#: Words that leave the shapes of a model as they are.
SAME_SHAPES = frozenset({"instruct", "it", "chat", "hf", "base", "pt", "meta", "bf16", "bnb", "rlhf", "sft", "dpo"})


def words(name: str) -> tuple[str, ...]:
    """Return the words of a name without the organisation and without what leaves the shapes as they are.

    >>> words("meta-llama/Meta-Llama-3.1-8B-Instruct") == words("llama 3.1 8b") == words("llama3.1:8b")
    True
    """
    own = str(name).strip().rstrip("/").rpartition("/")[2].lower()
    found = re.findall(r"\d+(?:\.\d+)?[a-z]*|[a-z]+", own)
    return tuple(word for word in found if word not in SAME_SHAPES)


def find(name: str, identifiers: Mapping[str, str]) -> str:
    """Return the one shipped model that a name means.

    Parameters
    ----------
    name : str
        As a person or the hub writes it.
    identifiers : mapping of str to str
        Name of each shipped model -> its identifier on the hub.

    Raises
    ------
    UnknownNameError
        If none is meant, with what is near.

    >>> from pruninfersim import models
    >>> models.get("Qwen/Qwen2.5-7B-Instruct").name, models.get("LLaMA 2 7B").name
    ('qwen2.5-7b', 'llama-2-7b')
    """
    asked = words(name)
    meant = [own for own, hub in identifiers.items() if asked in (words(own), words(hub))]
    if len(meant) == 1:
        return meant[0]
    if not meant:
        partly = [own for own in identifiers if asked and set(asked) <= set(words(own))]
        meant = partly if len(asked) > 1 else []
    if len(meant) > 1:
        raise UnknownNameError(f"model {shown(name)} is one of several: {', '.join(meant)}. Say which.")
    near = meant or difflib.get_close_matches("-".join(asked), identifiers, n=1, cutoff=0.6)
    raise unknown_name("model", name, identifiers, near=near, listing=LISTING)
