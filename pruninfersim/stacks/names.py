"""Names of stacks as their projects and people spell them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pruninfersim.errors import unknown_name

#: Short names, spelled plainly -> stack.
SHORT = {
    "trtllm": "tensorrt-llm",
    "hf": "transformers",
    "huggingface": "transformers",
    "hftransformers": "transformers",
}


def find(name: str, known: Iterable[str], kind: str = "stack") -> str:
    """Return the registered name of a stack that is spelled in another way.

    Raises
    ------
    UnknownNameError
        If there is none.

    >>> find("TensorRT-LLM 0.9", ["tensorrt-llm", "tensorrt-llm-0.9"]), find("TRT-LLM", ["tensorrt-llm"])
    ('tensorrt-llm-0.9', 'tensorrt-llm')
    """
    registered = {_plain(own): own for own in known}
    plain = _plain(name)
    found = registered.get(plain, SHORT.get(plain, ""))
    if found not in registered.values():
        raise unknown_name(kind, name, registered.values())
    return found


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
