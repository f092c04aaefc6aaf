"""What pruning a site costs: importances of one's own, from a table, a mapping or an array."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pruninfersim._util.arrays import FloatArray, checked
from pruninfersim._util.files import TABLE, read_text
from pruninfersim.errors import FileFormatError, InvalidInputError

if TYPE_CHECKING:
    import pandas as pd

#: An own table of importances: a frame, the path of a CSV file, a mapping, or an array over layers (and roles).
Importance: TypeAlias = "pd.DataFrame | str | Path | Mapping[Any, float] | ArrayLike"


def importances(
    given: Importance, layer: NDArray[np.intp], role: tuple[str, ...], sparsity: FloatArray, layers: int
) -> FloatArray:
    """Return the importance of each site, shape (site,).

    Parameters
    ----------
    given : table, mapping or array
        As `pruninfersim.where_to_prune` takes it.
    layer, role, sparsity
        Of each site.
    layers : int
        Of the model.

    Raises
    ------
    InvalidInputError, FileFormatError
        If a site has no importance, or one is below 0.

    >>> importances({"attention": 2.0, "mlp": 5.0}, np.array([0, 0]), ("attention", "mlp"), np.array([0.5, 1.0]), 1)
    array([1., 5.])
    """
    roles = list(dict.fromkeys(role))
    if isinstance(given, str | Path) or hasattr(given, "columns"):
        return _from_table(given, layer, role, sparsity)
    if isinstance(given, Mapping):
        found = []
        for at, name in zip(layer.tolist(), role, strict=True):
            key = next((key for key in ((at, name), name, at) if key in given), None)
            if key is None:
                raise InvalidInputError(f"the importances have no ({at}, {name!r}), no {name!r} and no {at}")
            found.append(given[key])
        return checked("importance", found, minimum=0) * sparsity
    array = checked("importance", given, minimum=0)
    if array.shape not in ((layers,), (layers, len(roles))):
        raise InvalidInputError(
            f"importances have shape ({layers},) or ({layers}, {len(roles)}), roles being {', '.join(roles)}; "
            f"got {array.shape}"
        )
    wide = np.broadcast_to(array.reshape(layers, -1), (layers, len(roles)))
    return np.asarray(wide[layer, [roles.index(name) for name in role]] * sparsity)


def _from_table(given: Any, layer: NDArray[np.intp], role: tuple[str, ...], sparsity: FloatArray) -> FloatArray:
    import pandas as pd

    name = "the table"
    if isinstance(given, str | Path):
        name = Path(given).name
        try:
            given = pd.read_csv(io.StringIO(read_text(given, TABLE), newline=None), comment="#")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise FileFormatError(f"{name}: cannot be read as a CSV table: {reason}") from None
    missing = [column for column in ("layer", "role", "importance") if column not in given.columns]
    if missing:
        raise FileFormatError(
            f"{name}: no column {', '.join(missing)}; it has layer, role, importance, or sparsity too"
        )
    keys = ["layer", "role", *(["sparsity"] if "sparsity" in given.columns else [])]
    wanted = pd.DataFrame({"layer": layer, "role": role, "sparsity": sparsity})
    if given.duplicated(keys).any():
        raise FileFormatError(f"{name}: two rows of one {' and '.join(keys)}")
    numbers = [column for column in (*keys, "importance") if column != "role"]
    for column in numbers:
        if not pd.api.types.is_numeric_dtype(given[column]) or pd.api.types.is_bool_dtype(given[column]):
            raise FileFormatError(f"{name}: column {column} must hold numbers")
    plain = given[[*keys, "importance"]].astype({"role": str} | dict.fromkeys(numbers, float))
    found = wanted.astype({"layer": float}).merge(plain, how="left", on=keys)["importance"].to_numpy()
    if np.isnan(found).any():
        first = wanted.iloc[int(np.flatnonzero(np.isnan(found))[0])]
        raise FileFormatError(
            f"{name}: no importance of layer {first.layer}, {first.role} at sparsity {first.sparsity:g}"
        )
    try:
        checked("importance", found, minimum=0)
    except InvalidInputError as error:
        raise FileFormatError(f"{name}: {error}") from None
    return found if "sparsity" in keys else found * sparsity
