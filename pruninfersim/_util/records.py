"""Base class of the frozen, checked records (`HardwareProfile`, `ModelConfig`): one clear line per mistake."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from pruninfersim.errors import InvalidInputError, shown, unknown_name

K = TypeVar("K")
V = TypeVar("V")


class FrozenDict(dict[K, V]):
    """A dict that cannot be changed, so that a cached record cannot be corrupted; hashable and picklable.

    >>> FrozenDict({"bf16": 1.0})["bf16"]
    1.0
    """

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("this table is read-only; use clone() to get a record with other values")

    __setitem__ = __delitem__ = _refuse
    clear = pop = popitem = setdefault = update = __ior__ = _refuse

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[Any, ...]:
        return (FrozenDict, (dict(self),))


def one_line(error: ValidationError) -> str:
    """Return what is wrong in a pydantic error as one line, field by field."""
    parts = []
    for item in error.errors(include_url=False):
        where = ".".join(str(step) for step in item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "missing":
            parts.append(f"{where} is missing")
        elif not where:
            parts.append(message)
        else:
            parts.append(f"{where}: {message[:1].lower()}{message[1:]}; got {shown(item['input'])}")
    return "; ".join(parts)


#: What every pydantic model has, and no reader of a record looks for.
_PYDANTIC = frozenset(name for name in dir(BaseModel) if not name.startswith("__")) | {"_abc_impl"}


class Record(BaseModel):
    """A frozen pydantic model whose validation errors are `InvalidInputError` with one clear line."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False, defer_build=True)

    def __init__(self, **data: Any) -> None:
        known = type(self).model_fields
        for key in data:
            if key not in known:
                raise InvalidInputError(_unknown_field(type(self).__name__, key, tuple(known)))
        try:
            super().__init__(**data)
        except ValidationError as error:
            label = f" {data['name']!r}" if isinstance(data.get("name"), str) else ""
            raise InvalidInputError(f"invalid {type(self).__name__}{label}: {one_line(error)}") from None

    def __dir__(self) -> list[str]:
        """Fields and what the record can do, without the machinery of pydantic that it inherits."""
        names = super().__dir__()
        return sorted(name for name in names if name.startswith("__") or (name not in _PYDANTIC and name[0] != "_"))


@lru_cache(maxsize=512)
def _unknown_field(record: str, key: str, known: tuple[str, ...]) -> str:
    """Return what is said of a field that a record lacks: often asked, as a union tries one record after the other."""
    return str(unknown_name(f"{record} field", key, known))


def modified_from(name: str, changed: Iterable[str], reference: str) -> str:
    """Return the reference of a clone, which says what it was cloned from and what was changed.

    >>> modified_from("a100", ["tdp"], "NVIDIA data sheet")
    'modified from a100 (tdp); original: NVIDIA data sheet'
    """
    what = ", ".join(sorted(changed)) or "name only"
    return f"modified from {name} ({what}); original: {reference}"
