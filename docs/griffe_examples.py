"""Docstrings as people write them, told so that the reference understands them: examples, groups of parameters."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

FIRST_EXAMPLE = re.compile(r"\n\n(?=>>> )")
#: "a, b : type" with its indented description; several parameters that are told at once.
GROUP = re.compile(r"^(\w+(?:, \w+)+) : (.*\n(?:[ ]{4}.*\n|\n(?=[ ]{4}))*)", flags=re.MULTILINE)
#: "{"a", "b"}": the parser would call the first of them the default.
CHOICES = re.compile(r'(?<= : )\{((?:"\w+"(?:, )?)+)\}')


class Examples(Extension):
    """Put "Examples" above the first example of a docstring, and give each parameter an entry of its own."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Change one docstring; `griffe` calls this for every object that it has read."""
        if obj.docstring is not None:
            text = GROUP.sub(_one_by_one, obj.docstring.value + "\n")
            text = CHOICES.sub(lambda found: " or ".join(found[1].split(", ")), text)
            obj.docstring.value = FIRST_EXAMPLE.sub("\n\nExamples\n--------\n", text, count=1)


def _one_by_one(group: re.Match[str]) -> str:
    # Whoever is told "as in another function" finds the default in the signature, name by name.
    return "".join(f"{name} : {group[2]}" for name in group[1].split(", "))
