"""What is looked up when it is first asked for: names of heavy modules, the names that a module shows, a figure."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from types import ModuleType
from typing import Any, TypeVar

V = TypeVar("V")


class Package(ModuleType):
    """A package whose lazy names are not hidden by modules of the same name.

    The import system sets each submodule as an attribute of its package. Where a function has the name of the module
    that it comes from, such as ``trace``, the function is what the package offers.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        homes: Mapping[str, str] = self.__dict__.get("_LAZY", {})
        if not (isinstance(value, ModuleType) and not homes.get(name, ":").endswith(":")):
            super().__setattr__(name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as what is imported by its name: workers get functions that name the package."""
        return importlib.import_module, (self.__name__,)


def lazy(namespace: MutableMapping[str, Any], homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a package that offers names from modules that are not imported yet.

    Parameters
    ----------
    namespace : dict
        ``globals()`` of the package; a name is kept there once it was asked for. A package that keeps `homes` as
        ``_LAZY`` becomes a `Package`.
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

    if namespace.get("_LAZY") is homes:
        sys.modules[namespace["__name__"]].__class__ = Package
    return find


def shows(names: Iterable[str]) -> Callable[[], list[str]]:
    """Return the ``__dir__`` of a module: its public names, and nothing that it imported for itself.

    >>> shows(["b", "a"])()
    ['a', 'b']
    """
    listed = sorted(names)
    return lambda: list(listed)


def callable_module(name: str, answer: Callable[..., Any]) -> None:
    """Let a module be called like the function that a reader takes it for.

    >>> import sys, types
    >>> sys.modules["_shown"] = types.ModuleType("_shown")
    >>> callable_module("_shown", lambda x: 2 * x)
    >>> sys.modules.pop("_shown")(21)
    42
    """

    class Callable_(ModuleType):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return answer(*args, **kwargs)

        __reduce__ = Package.__reduce__

    sys.modules[name].__class__ = Callable_


class Grouped(Mapping[str, V]):
    """A mapping of which entries are made when one of their group is first asked for.

    Copies and pickles are dicts, of all entries.

    Parameters
    ----------
    plain : mapping
        Entries that are there already.
    groups : mapping of str to callable
        Group -> what makes its entries, by full key. The group of a key is the key itself, or what follows its "/".

    >>> squares = Grouped({"one": 1}, {"two": lambda: {"two": 4}, "odd": lambda: {"three/odd": 9, "five/odd": 25}})
    >>> squares["two"], squares["five/odd"], squares.get("four/even"), list(squares)
    (4, 25, None, ['one', 'two', 'three/odd', 'five/odd'])
    """

    def __init__(self, plain: Mapping[str, V], groups: Mapping[str, Callable[[], Mapping[str, V]]]) -> None:
        self._made = dict(plain)
        self._groups = groups
        self._done: set[str] = set()

    def __getitem__(self, key: str) -> V:
        if key not in self._made:
            self._make(key if key in self._groups else key.partition("/")[2])
        return self._made[key]

    def __iter__(self) -> Iterator[str]:
        for group in self._groups:
            self._make(group)
        return iter(self._made)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)

    def _make(self, group: str) -> None:
        if group in self._groups and group not in self._done:
            for key, value in self._groups[group]().items():
                self._made.setdefault(key, value)  # of two threads that ask at once, one is heard
            self._done.add(group)


def drawn(what: Any, kind: str | None, options: Mapping[str, Any]) -> Any:
    """Return the figure of a result: results are made below the room of the plots, which is asked for when one is."""
    return importlib.import_module("pruninfersim.plots.one_step").plot(what, kind, **options)
