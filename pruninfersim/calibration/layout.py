"""What a calibration file may hold: every entry with the kind and the range that it can have."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AllowInfNan, ConfigDict, Field

from pruninfersim._util.records import Record
from pruninfersim.errors import FileFormatError, shown
from pruninfersim.kernels.base import parameters

#: ln(measured / predicted), and errors as fractions, of anything that predicts: ten e-foldings are none.
Log = Annotated[float, Field(ge=-10.0, le=10.0)]
Error = Annotated[float, Field(ge=0.0, le=1e4)]
Correlation = Annotated[float, Field(ge=-1.0, le=1.0)]
#: How far a parameter may lie outside of the bounds of its fit: those of an older version were others.
OUTSIDE = 10.0


class _Part(Record):
    """A record that takes no text for a number."""

    model_config = ConfigDict(strict=True)


class Quantiles(_Part):
    """Section ``residual``."""

    low: Log
    median: Log
    high: Log
    robust_sd: Error


class Range(_Part):
    """An entry of ``band``."""

    up_to: Annotated[float, Field(gt=0.0), AllowInfNan(True)]
    low: Log
    high: Log


class Parameter(_Part):
    """An entry of ``parameters``."""

    value: float
    unit: str
    meaning: str
    standard_error: Annotated[float, Field(ge=0.0), AllowInfNan(True)] | None = None


class Layout(_Part):
    """A whole file.

    >>> Layout.model_fields["rows"].is_required()
    True
    """

    kind: str
    kernel: str
    hardware: str = Field(min_length=1)
    dtype: str
    cache: Literal["cold", "replayed"]
    source: str
    date: str
    rows: int = Field(gt=0)
    fitted_error: Error
    held_out_error: Error
    settings: dict[str, bool | float | str] = {}  # noqa: RUF012  # pydantic copies a default for each record
    residual: Quantiles
    ratio_error: dict[str, Error] = {}  # noqa: RUF012
    pair_correlation: dict[str, Correlation] = {}  # noqa: RUF012
    domain: dict[str, list[Annotated[float, Field(ge=0.0)]]]
    band: list[Range] = Field(min_length=1)
    parameters: dict[str, Parameter]


def fitted_kernel(kind: type[Any], layout: Layout) -> Any:
    """Return the kernel model of a file, if its parameters can be those of a fit.

    Raises
    ------
    FileFormatError
        If a parameter lies far outside of the bounds of its fit, or a setting is not of the kind of its default.
    """
    for name, field in parameters(kind).items():
        low, high = field.metadata["lower"] / OUTSIDE, field.metadata["upper"] * OUTSIDE
        if not low <= layout.parameters[name].value <= high:
            value = shown(layout.parameters[name].value)
            raise FileFormatError(f"parameter {name} must be {low:g} to {high:g} {field.metadata['unit']}; got {value}")
    start = kind()
    for name, setting in layout.settings.items():
        if type(getattr(start, name, None)) is not type(setting):
            raise FileFormatError(f"settings: {name} is {shown(setting)}, not what {kind.__name__} takes")
    return kind(**{name: entry.value for name, entry in layout.parameters.items()}, **layout.settings)
