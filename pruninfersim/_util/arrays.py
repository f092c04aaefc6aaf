"""Small array helpers shared by the pure core: validation, broadcasting, freezing."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pruninfersim.errors import InvalidInputError, shown

FloatArray = NDArray[np.float64]
T = TypeVar("T", bound=np.generic)


#: First size of a tensor, in elements of one axis, that no GPU will ever see: beyond it only numbers overflow.
TOO_LARGE = 1e12


def frozen(values: ArrayLike) -> FloatArray:
    """Return `values` as a read-only float64 array that nobody else can write to.

    >>> frozen([1, 2]).flags.writeable
    False
    """
    if isinstance(values, np.ndarray) and values.dtype == np.float64 and not values.flags.writeable:
        return values
    return sealed(np.array(values, dtype=np.float64))


def sealed(array: FloatArray) -> FloatArray:
    """Make a fresh array read-only in place; for arrays that were just made and are known to nobody else."""
    array.flags.writeable = False
    return array


class ReadOnly:
    """A frozen dataclass whose arrays stay read-only when it is pickled or copied: numpy restores writable ones.

    >>> import copy, dataclasses
    >>> @dataclasses.dataclass(frozen=True)
    ... class Point(ReadOnly):
    ...     x: FloatArray
    >>> copy.deepcopy(Point(frozen([1.0]))).x.flags.writeable
    False
    """

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, _without_writers(value))


class Answer(ReadOnly):
    """A frozen dataclass that takes arrays of anyone: its own are read-only copies, whatever becomes of those.

    >>> import dataclasses
    >>> @dataclasses.dataclass(frozen=True)
    ... class Point(Answer):
    ...     x: FloatArray
    >>> given = np.array([1.0])
    >>> point = Point(given)
    >>> given[0] = 2.0
    >>> point.x.tolist(), point.x.flags.writeable
    ([1.0], False)
    """

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray | dict | tuple):
                object.__setattr__(self, name, _without_writers(value))


def _without_writers(value: Any) -> Any:
    """Return an array that nobody can write to; of a dict or tuple, one of such values."""
    if isinstance(value, np.ndarray):
        return sealed(value.copy()) if value.flags.writeable else value
    if isinstance(value, dict) and any(isinstance(item, np.ndarray) for item in value.values()):
        return {name: _without_writers(item) for name, item in value.items()}
    if isinstance(value, tuple) and any(isinstance(item, np.ndarray) for item in value):
        return tuple(_without_writers(item) for item in value)
    return value


#: Kinds of numpy types that are numbers: signed and unsigned integers, floats. Neither truth values nor text, times,
#: complex numbers.
_REAL = "iuf"


def real(name: str, values: Any) -> FloatArray:
    """Return `values` as float64 if every one of them is a real number, which truth values, text and times are not.

    >>> real("sparsity", "0.5")
    Traceback (most recent call last):
    pruninfersim.errors.InvalidInputError: sparsity must be a number or an array of numbers; got '0.5'
    """
    try:
        given = np.asarray(values)
        if given.dtype.kind == "O":  # numbers of other libraries, of unlimited size, or of columns with gaps
            if any(isinstance(value, str | bytes | bool | np.bool_) for value in given.flat):
                raise TypeError
            array = given.astype(np.float64)
        elif given.dtype.kind in _REAL:
            array = given.astype(np.float64, copy=False)
        else:
            raise TypeError
        mixed = values if isinstance(values, list | tuple) else ()  # numpy makes numbers of them before it tells
        if np.ma.is_masked(values) or any(isinstance(value, bool | np.bool_) for value in mixed):
            raise TypeError
    except Exception:  # an object may do anything when it is asked for its number
        what = "a masked array with values left out" if isinstance(values, np.ma.MaskedArray) else shown(values)
        raise InvalidInputError(f"{name} must be a number or an array of numbers; got {what}") from None
    return array


def checked(
    name: str,
    values: ArrayLike,
    *,
    minimum: float = -np.inf,
    below: float = np.inf,
    whole: bool = False,
) -> FloatArray:
    """Return `values` as float64 after checking ``minimum <= values < below``.

    Parameters
    ----------
    name : str
        What the value is, for the message.
    values : array_like
        Any shape.
    minimum, below : float
        Smallest allowed value and first value that is too large.
    whole : bool
        Whether only whole numbers are allowed.

    Raises
    ------
    InvalidInputError
        If a value is not a real number (truth values, text, times, complex numbers and gaps are none), not finite, or
        out of range.

    >>> checked("sparsity", 1.2, minimum=0, below=1)
    Traceback (most recent call last):
    pruninfersim.errors.InvalidInputError: sparsity must be in [0, 1); got 1.2
    """
    array = values if type(values) is np.ndarray and values.dtype == np.float64 else real(name, values)
    bad = ~np.isfinite(array) | (array < minimum) | (array >= below)
    if whole:
        bad = bad | (array != np.floor(array))
    if bad.any():
        kind = "a whole number, " if whole else ""
        first = array[bad].flat[0] if array.ndim else array[()]
        # Who gave a size of 0 need not read how large a size may be.
        far = np.isfinite(below) and not (below >= TOO_LARGE and first < below)
        limits = f"in [{minimum:g}, {below:g})" if far else f"at least {minimum:g}"
        raise InvalidInputError(f"{name} must be {kind}{limits}; got {first:g}")
    return array


def sizes(**given: ArrayLike) -> dict[str, FloatArray]:
    """Return sizes of kernels as arrays: positive numbers, not of need whole ones, as a mean over sequences is none.

    Raises
    ------
    InvalidInputError
        If one is not positive, or absurd.

    >>> sizes(m=[1, 2])["m"].tolist()
    [1.0, 2.0]
    """
    return {name: checked(name, value, minimum=1e-9, below=TOO_LARGE) for name, value in given.items()}


def stack_ops(values: Sequence[ArrayLike]) -> FloatArray:
    """Stack one value per op into a column of shape ``(*sweep, op)``, broadcasting the sweep axes.

    >>> stack_ops([1.0, np.array([2.0, 3.0])]).shape
    (2, 2)
    """
    try:
        plain = np.array(values, dtype=np.float64)
    except ValueError:  # entries of different shapes
        plain = None
    if plain is not None and plain.ndim == 1:
        return plain
    arrays = [np.asarray(value, dtype=np.float64) for value in values]
    shape = np.broadcast_shapes(*(array.shape for array in arrays))
    out = np.empty((*shape, len(arrays)))
    for index, array in enumerate(arrays):
        out[..., index] = array
    return out


def ends(values: ArrayLike, form: str = "g") -> str:
    """Return one number, or the ends of those along a sweep, for a reader.

    >>> ends(8.0), ends([1.0, 2.5, 2.0], ".2f")
    ('8', '1.00 to 2.50')
    """
    low, high = float(np.min(values)), float(np.max(values))
    return f"{low:{form}}" if low == high else f"{low:{form}} to {high:{form}}"


def last_first(column: NDArray[T]) -> NDArray[T]:
    """Return a view with the last axis, of a column the ops, as the first; `np.moveaxis` takes ten times as long.

    >>> last_first(np.zeros((2, 3, 5))).shape, first_last(np.zeros((5, 2, 3))).shape
    ((5, 2, 3), (2, 3, 5))
    """
    last = column.ndim - 1
    return column.transpose(last, *range(last))


def first_last(column: NDArray[T]) -> NDArray[T]:
    """Return a view with the first axis as the last: the other way round than `last_first`."""
    return column.transpose(*range(1, column.ndim), 0)


def among(labels: Iterable[str], wanted: Collection[str]) -> NDArray[np.bool_]:
    """Return which labels are among those wanted: on a few words many times faster than `np.isin`.

    >>> among(["q", "k", "o"], ["q", "o"]).tolist()
    [True, False, True]
    """
    return np.array([label in wanted for label in labels], dtype=bool)


def somewhere(flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which ops have a flag of shape (*sweep, op) at any point of a sweep, shape (op,).

    >>> somewhere(np.array([[True, False], [False, False]])).tolist()
    [True, False]
    """
    return np.asarray(flags.any(axis=tuple(range(flags.ndim - 1))))
