"""Docstrings here end with an example and no heading; the reference needs the heading to tell it from text."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

FIRST_EXAMPLE = re.compile(r"\n\n(?=>>> )")


class Examples(Extension):
    """Put "Examples" above the first example of a docstring."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Change one docstring; `griffe` calls this for every object that it has read."""
        if obj.docstring is not None:
            obj.docstring.value = FIRST_EXAMPLE.sub("\n\nExamples\n--------\n", obj.docstring.value, count=1)
