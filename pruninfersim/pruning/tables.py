"""Tables of ratios per layer, as pruning tools print them: CSV or JSON in, a `Ratio` out."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pruninfersim._util.files import read_text
from pruninfersim.errors import FileFormatError, shown
from pruninfersim.models.hf.keys import MOST_LAYERS
from pruninfersim.pruning.ratios import PerBlock, PerLayer, PerRole, Ratio

#: Names of linear layers in checkpoints of Hugging Face -> roles here.
ROLES = {f"{role}_proj": role for role in ("q", "k", "v", "o", "gate", "up", "down")}
#: Columns of a table that hold one ratio for the layer.
WHOLE = ("ratio", "sparsity", "pruning_ratio")
BLOCKS = {"attention": "attention", "attn": "attention", "self_attn": "attention", "mlp": "mlp", "ffn": "mlp"}
MODULE = re.compile(r"(?:^|\.)layers\.(\d+)\.(?:self_attn|attn|mlp)\.?(\w*)$")


def read_ratios(path: str | Path) -> Ratio:
    """Return the ratios of a table with one entry per layer.

    Understood are, in CSV (columns) and JSON (keys): a ratio per layer (``layer, sparsity``; a list;
    ``{"0": 0.3}``), one per layer and block (``layer, attention, mlp``), one per layer and linear layer
    (``layer, q_proj, ..., down_proj``), and one per module (``model.layers.3.mlp.down_proj``).

    Returns
    -------
    PerLayer, PerBlock or PerRole
        Fractions removed, one per layer [1]; linear layers that a table leaves out keep everything.

    Raises
    ------
    FileFormatError
        If the file is none of these, a layer is missing or twice, or a value is no fraction below 1.

    >>> from pathlib import Path
    >>> _ = Path("ratios.csv").write_text("layer,attention,mlp\\n0,0.25,0.5\\n1,0,0.5\\n")
    >>> read_ratios("ratios.csv").mlp.values
    [0.5, 0.5]
    """
    file = Path(path)
    try:
        text = read_text(file)
    except OSError as error:
        raise FileFormatError(f"cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise FileFormatError(f"cannot read {file}: it is not UTF-8 text") from None
    if file.suffix == ".json":
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise FileFormatError(f"{file.name} is no JSON: {error}") from None
        return _ratio(_rows_of_json(content, file.name), file.name)
    try:
        rows = [dict(row) for row in csv.DictReader(text.splitlines())]
    except csv.Error as error:
        raise FileFormatError(f"{file.name} is no CSV: {error}") from None
    return _ratio(rows, file.name)


def _rows_of_json(content: Any, name: str) -> list[dict[str, Any]]:
    if isinstance(content, list):
        rows = [row if isinstance(row, dict) else {"sparsity": row} for row in content]
        return [{"layer": i} | row for i, row in enumerate(rows)]
    if isinstance(content, dict) and content:
        if all(MODULE.search(str(key)) for key in content):
            return [{"module": key, "sparsity": value} for key, value in content.items()]
        if all(str(key).isdigit() for key in content):
            each = [(_layer(key, name), value) for key, value in content.items()]
            return [{"layer": i} | (value if isinstance(value, dict) else {"sparsity": value}) for i, value in each]
    raise FileFormatError(f"{name} must hold a list of ratios, or a table of layers or modules")


def _ratio(rows: Sequence[Mapping[str, Any]], name: str) -> Ratio:
    table: dict[str, dict[int, float]] = {}
    for row in rows:
        clean = {str(key).strip().lower(): value for key, value in row.items() if value not in (None, "")}
        given = [key for key in WHOLE if key in clean]
        if len(given) > 1:
            raise FileFormatError(f"{name} has {' and '.join(given)}: leave all but one out")
        found = MODULE.search(str(clean.pop("module", clean.pop("name", ""))))
        if found:
            layer, column = _layer(found[1], name), ROLES.get(found[2], "")
            values = {column: clean[given[0]] if given else None}
        elif "layer" in clean:
            layer = _layer(clean.pop("layer"), name)
            values = {_column(key, name): value for key, value in clean.items()}
        else:
            raise FileFormatError(f"{name} needs a column layer, or module names such as model.layers.0.mlp.up_proj")
        for key, value in values.items():
            if layer in table.setdefault(key, {}):
                raise FileFormatError(f"{name} has layer {layer} twice")
            ratio = _number(value, name)
            if not 0 <= ratio < 1:
                raise FileFormatError(
                    f"{name}: a ratio is a fraction removed in [0, 1); got {ratio:g} in layer {layer}"
                )
            table[key][layer] = ratio
    if not table:
        raise FileFormatError(f"{name} has no rows")
    layers = 1 + max(max(column) for column in table.values())
    lists = {}
    for key, of_layer in table.items():
        if missing := [i for i in range(layers) if i not in of_layer]:
            raise FileFormatError(f"{name} has no ratio for layer {missing[0]}{f' of {key}' if key else ''}")
        lists[key] = PerLayer([of_layer[i] for i in range(layers)])
    if set(lists) == {""}:
        return lists[""]
    if set(lists) <= {"attention", "mlp"}:
        return PerBlock(**lists)
    if set(lists) <= set(ROLES.values()):
        return PerRole(**lists)
    raise FileFormatError(f"{name} mixes ratios of layers, blocks and linear layers: {', '.join(sorted(lists))}")


def _column(key: str, name: str) -> str:
    if key in WHOLE:
        return ""
    known = BLOCKS | ROLES | {role: role for role in ROLES.values()}
    if key not in known:
        raise FileFormatError(f"{name}: unknown column {shown(key)}; known: {', '.join((*WHOLE, *known))}")
    return known[key]


def _layer(value: Any, name: str) -> int:
    number = _number(value, name)
    if not 0 <= number < MOST_LAYERS or number != int(number):
        raise FileFormatError(f"{name}: layer {shown(value)} is not a whole number from 0 to {MOST_LAYERS - 1}")
    return int(number)


def _number(value: Any, name: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise FileFormatError(f"{name}: {shown(value)} is no number") from None
