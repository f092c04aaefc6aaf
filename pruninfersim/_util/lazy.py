"""Public names whose modules are heavy (scipy, pandas, plotly) and are imported when a name is first asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any


def lazy(namespace: MutableMapping[str, Any], homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a package that offers names from modules that are not imported yet.

    Parameters
    ----------
    namespace : dict
        ``globals()`` of the package; a name is kept there once it was asked for.
    homes : mapping of str to str
        Name -> module that defines it, or, ending in ``":"``, the module that the name itself stands for.

    >>> get = lazy({"__name__": "here"}, {"sqrt": "math", "maths": "math:"})
    >>> get("sqrt")(4.0), get("maths").pi > 3
    (2.0, True)
    """

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {namespace['__name__']!r} has no attribute {name!r}")
        module = importlib.import_module(homes[name].removesuffix(":"))
        value = module if homes[name].endswith(":") else getattr(module, name)
        namespace[name] = value
        return value

    return find
