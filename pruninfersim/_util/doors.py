"""What a public function says of an argument of a kind that it does not take: one line, in place of what broke inside.

Arguments are compared with the annotations of the function only after something has gone wrong, so that a right call
costs nothing. Where all arguments are of the kinds that are annotated, the error is let through: it is a fault of the
library, or of a function that was passed in.
"""

from __future__ import annotations

import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from numbers import Integral, Real
from typing import Any, ParamSpec, TypeVar

import numpy as np

from pruninfersim._util.arrays import real
from pruninfersim.errors import InvalidInputError, PruninfersimError, shown

P = ParamSpec("P")
R = TypeVar("R")

#: Names of annotations that numpy takes for anything that it makes numbers of.
_NUMERIC = ("ArrayLike", "FloatArray", "NDArray")
#: So many entries of a list are looked at.
_SAMPLE = 32


class _Numbers:
    """Stands for an annotation that means a number or an array of numbers."""


def door(function: Callable[P, R]) -> Callable[P, R]:
    """Let a public function name the argument that it cannot take.

    >>> @door
    ... def half(number: float) -> float:
    ...     return number / 2
    >>> half("8")
    Traceback (most recent call last):
    pruninfersim.errors.InvalidInputError: half: number must be a number; got '8'
    >>> half()
    Traceback (most recent call last):
    pruninfersim.errors.InvalidInputError: half: missing a required argument: 'number'
    """

    @functools.wraps(function)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except PruninfersimError:
            raise
        except Exception as error:
            complaint = mistake(function, args, kwargs)
            if not complaint and isinstance(error, ValueError) and "broadcast" in str(error):
                complaint = f"{function.__name__}: the shapes of the arrays do not go together: {error}"
            if not complaint:
                raise
        raise InvalidInputError(complaint)

    return inside


def doors(kind: type[R]) -> type[R]:
    """Let the constructor of a class and its public methods name the argument that they cannot take.

    >>> @doors
    ... class Half:
    ...     def of(self, number: float) -> float:
    ...         return number / 2
    >>> Half().of(None)
    Traceback (most recent call last):
    pruninfersim.errors.InvalidInputError: of: number must be a number; got None
    """
    for name, what in list(vars(kind).items()):
        if name[0] == "_" and name != "__init__":
            continue
        if isinstance(what, classmethod):
            setattr(kind, name, classmethod(door(what.__func__)))
        elif inspect.isfunction(what):
            setattr(kind, name, door(what))
    return kind


def mistake(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """Return which argument a function does not take, or an empty text if it takes all of them."""
    name = function.__name__
    if name == "__init__":
        name = function.__qualname__.split(".")[-2] if "." in function.__qualname__ else type(args[0]).__name__
    try:
        bound = inspect.signature(function).bind(*args, **kwargs)
    except TypeError as error:
        return f"{name}: {error}"
    hints = _Names(function).hints()
    for parameter, given in bound.arguments.items():
        hint, kind = hints.get(parameter, Any), bound.signature.parameters[parameter].kind
        values = given if kind is inspect.Parameter.VAR_POSITIONAL else (given,)
        wrong = [value for value in values if not fits(value, hint)]
        if wrong and kind is not inspect.Parameter.VAR_KEYWORD:
            return f"{name}: {parameter} must be {described(hint)}; got {shown(wrong[0])}"
    return ""


class _Names(dict[str, Any]):
    """What the words in the annotations of a function mean; a word that nobody has loaded means anything."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self._function = function

    def hints(self) -> dict[str, Any]:
        """Return the meaning of each annotation."""
        return {name: self._meaning(text) for name, text in self._function.__annotations__.items() if name != "return"}

    def __missing__(self, name: str) -> Any:
        if name in _NUMERIC:
            return _Numbers
        own = self._function.__globals__.get(name, vars(typing).get(name))
        if own is None:
            own = vars(sys.modules["builtins"]).get(name)
        if own is None:  # imported for the type checker only
            room = self._function.__module__.partition(".")[0]
            loaded = [module for key, module in list(sys.modules.items()) if key.partition(".")[0] == room]
            own = next((vars(module)[name] for module in loaded if inspect.isclass(vars(module).get(name))), None)
            own = sys.modules.get({"pd": "pandas"}.get(name, name), Any) if own is None else own
        return self._meaning(own) if isinstance(own, str) else own

    def _meaning(self, text: Any) -> Any:
        try:
            return eval(text, {}, self) if isinstance(text, str) else text
        except Exception:  # of a word that only type checkers know
            return Any


def fits(value: Any, hint: Any) -> bool:
    """Return whether a value may be of the kind that an annotation says; of an annotation that is not known, yes.

    >>> fits(3, float), fits("3", float), fits(["a"], list[str]), fits([1], Iterable[str])
    (True, False, True, False)
    """
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any or isinstance(hint, str):
        return True
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, each) for each in inner)
    if origin is typing.Literal:
        return isinstance(value, str) and value in inner
    if hint is _Numbers:
        return _numeric(value)
    if origin is type or origin is Callable:
        return isinstance(value, type) if origin is type else callable(value)
    if isinstance(origin, type):
        if isinstance(value, bytes):  # a sequence of numbers by name only
            return False
        if isinstance(value, dict) and len(inner) == 2:
            return isinstance(value, origin) and all(fits(each, inner[1]) for each in islice(value.values(), _SAMPLE))
        entries = value if isinstance(value, list | tuple | set | frozenset | str | range) and inner else ()
        return isinstance(value, origin) and all(fits(each, inner[0]) for each in islice(entries, _SAMPLE))
    if hint in (None, types.NoneType):
        return value is None
    if not isinstance(hint, type) or hint is object:
        return True
    if hint in (float, int):
        wanted = Real if hint is float else Integral
        return isinstance(value, wanted) and not isinstance(value, bool | np.bool_)
    if getattr(hint, "_is_protocol", False):
        return all(hasattr(value, name) for name in {*vars(hint), *hint.__annotations__} if name[0] != "_")
    return isinstance(value, hint)


def _numeric(value: Any) -> bool:
    try:
        real("", value)
    except InvalidInputError:
        return isinstance(value, np.ndarray) and value.dtype == bool  # a mask
    return True


#: How the kinds that messages name most are called there.
_CALLED = {
    _Numbers: "a number or an array of numbers", float: "a number", int: "a whole number", str: "text", bool: "True or "
    "False", Mapping: "a mapping", Callable: "a function", type: "a class", Iterable: "a sequence",
    Sequence: "a sequence",
}  # fmt: skip


def described(hint: Any) -> str:
    """Return the kinds that an annotation allows, for a message.

    >>> described(float | None), described(list[int]), described(_Numbers)
    ('a number', 'a list', 'a number or an array of numbers')
    """
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        kinds = [described(each) for each in typing.get_args(hint) if each is not types.NoneType]
        return " or ".join(dict.fromkeys(kinds))
    if origin is typing.Literal:
        return " or ".join(repr(each) for each in typing.get_args(hint))
    kind = hint if origin is None else origin
    return _CALLED.get(kind, f"a {getattr(kind, '__name__', kind)}")
