"""Bridges to the reference study (arXiv 2606.09080): its configurations in, its printed results in.

Its users predict before they run, and compare after.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pruninfersim._util.files import read_text
from pruninfersim.errors import FileFormatError, MissingValueError, shown
from pruninfersim.pruning.ratios import PerBlock
from pruninfersim.pruning.registry import get
from pruninfersim.trace import PruningMethod

if TYPE_CHECKING:
    import pandas as pd

#: What the study calls a family, type and target in one -> the method here.
FAMILIES = {
    "static_m": "static-depth",
    "static_k_lowrank": "low-rank",
    "static_k_low_rank": "low-rank",
    "static_k_24": "semi-structured",
    "static_k_2_4": "semi-structured",
    "static_nk": "static-width",
    "static_nk_cross": "static-width-cross",
    "dynamic_m": "dynamic-depth",
    "dynamic_nk": "sparse-attention",
}
#: Targets that are a part of the layers, and no dimension of the products.
BLOCKS = {"attention": "attention", "attn": "attention", "self_attn": "attention", "mlp": "mlp", "ffn": "mlp"}
#: Targets that are all of the layers.
EVERYTHING = ("", "all", "both", "layer", "layers", "model")
#: Largest file that is read [B], a thousand times what a configuration takes: PyYAML reads some 100 kB per second.
LARGEST = 2**20
#: Deepest nesting of YAML, and what each of its tokens adds to it.
DEEPEST = 100
OPENS = dict.fromkeys(
    ("BlockMappingStartToken", "BlockSequenceStartToken", "FlowMappingStartToken", "FlowSequenceStartToken"), 1
) | dict.fromkeys(("BlockEndToken", "FlowMappingEndToken", "FlowSequenceEndToken"), -1)
#: Keys of an entry.
KEYS = ("type", "target", "sparsity", "ratio", "estimated_sparsity", "name", "method", "enabled")
#: Columns of a printed table as people call them, without what is in brackets -> columns of `pruninfersim.sweep`.
COLUMNS = {
    "method": ("method", "family", "type"),
    "sparsity": ("sparsity", "ratio", "pruning ratio"),
    "phase": ("phase", "stage", "mode"),
    "batch": ("batch", "batch size", "bs", "b"),
    "context": (
        "context",
        "context length",
        "ctx",
        "seq len",
        "seqlen",
        "sequence length",
        "length",
        "kv len",
        "prompt",
    ),
    "model": ("model",),
    "hardware": ("hardware", "gpu", "device"),
    "dense": ("dense", "baseline", "dense latency", "dense time"),
    "pruned": ("pruned", "sparse", "pruned latency", "pruned time", "latency"),
    "speedup": ("speedup", "speed up"),
}
NAMES = {name: column for column, names in COLUMNS.items() for name in names}
#: What stands for the given sparsity.
TAKE_GIVEN = -1.0
PHASES = {"ttft": "prefill", "tpot": "decode"}


def read_study(path: str | Path, sparsity: float | None = None) -> list[PruningMethod]:
    """Return the methods that a configuration of the study lists, in order.

    An entry is a mapping with ``type`` and ``target``, which together name a family (``static`` and ``NK``,
    ``dynamic`` and ``M``; ``static`` and ``K`` is written ``static_k_lowrank`` or ``static_k_24``), or a family and
    the blocks that it prunes (``static_nk`` and ``ffn``). Entries may stand anywhere in the file; what is beside them
    (model, data, protocol) is left alone. ``estimated_sparsity: -1`` takes the given sparsity: that of the entry, or
    the argument.

    Parameters
    ----------
    path : str or Path
        YAML, which needs the extra ``yaml``, or JSON. Tags, anchors and repeated keys are refused.
    sparsity : float, optional
        For entries without one of their own [1].

    Raises
    ------
    FileFormatError
        If the file cannot be read, lists no method, or an entry says something that is not known here.
    MissingValueError
        If an entry takes the given sparsity and none is given, or PyYAML is not installed.

    >>> from pathlib import Path
    >>> _ = Path("study.json").write_text('{"pruning": [{"type": "static", "target": "NK", "estimated_sparsity": -1}]}')
    >>> [(method.name, method.sparsity) for method in read_study("study.json", 0.25)]
    [('static-width', 0.25)]
    """
    file = Path(path)
    content = _json(_text(file), file.name) if file.suffix == ".json" else _yaml(_text(file), file.name)
    chosen: dict[str, dict[str, float]] = {}
    for entry in _entries(content, file.name):
        name, block = _family(entry, file.name)
        blocks = chosen.setdefault(name, {})
        if block in blocks or (blocks and "" in (block, *blocks)):
            raise FileFormatError(f"{file.name} prunes {block or 'everything'} with {name} twice")
        blocks[block] = _sparsity(entry, sparsity, file.name)
    if not chosen:
        raise FileFormatError(f"{file.name} lists no method: no mapping in it has a type and a target")
    return [
        get(name, blocks[""] if "" in blocks else PerBlock(**blocks))  # one for all layers, or one for each block
        for name, blocks in chosen.items()
    ]


def read_results(path: str | Path) -> pd.DataFrame:
    """Return a table of results that the study, or another benchmark, has printed.

    Read are CSV, columns between bars, and columns two spaces or more apart, with any text before and after: the first
    line with a column of methods and one of speedups, or of dense and pruned times, is the head.

    Returns
    -------
    DataFrame
        Columns ``method`` (as here), ``sparsity`` [1], ``phase``, ``batch``, ``context``, ``model``, ``hardware``, as
        far as the table has them, and ``measured`` [1]. With the missing ones assigned,
        ``pruninfersim.sweep(rows=...)`` predicts the same rows in the same order.

    Raises
    ------
    FileFormatError
        If there is no such table, or a cell is not what its column says.

    >>> from pathlib import Path
    >>> lines = ["family     | phase | sparsity | dense (ms) | pruned (ms)", "static_m | TPOT | 50% | 15.0 | 7.9"]
    >>> _ = Path("results.txt").write_text(chr(10).join(lines))
    >>> read_results("results.txt").to_dict("records")
    [{'method': 'static-depth', 'phase': 'decode', 'sparsity': 0.5, 'measured': 1.8987...}]
    """
    import pandas as pd

    file = Path(path)
    head: list[str] = []
    rows: list[dict[str, Any]] = []
    for line in _text(file).splitlines():
        try:
            cells = _cells(line)
        except csv.Error as error:
            raise FileFormatError(f"{file.name} is no CSV: {error}") from None
        names = [NAMES.get(_plain(cell), "") for cell in cells]
        if not head and "method" in names and ("speedup" in names or {"dense", "pruned"} <= set(names)):
            head = names
        elif head and len(cells) == len(head) and not set(line) <= set("|-+=: "):
            rows.append(_row(dict(zip(head, cells, strict=True)), file.name))
        elif rows:  # the table is over
            break
    if not rows:
        raise FileFormatError(f"{file.name} has no table with methods and speedups, or dense and pruned times")
    return pd.DataFrame(rows)


# --- configurations -------------------------------------------------------------------------------------------------


def _text(file: Path) -> str:
    try:
        return read_text(file, LARGEST)
    except (OSError, UnicodeDecodeError) as error:
        raise FileFormatError(f"cannot read {file}: {getattr(error, 'strerror', None) or error}") from None


def _json(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{name} is no JSON: {error}") from None


def _yaml(text: str, name: str) -> Any:
    """Return plain data: no tags, which could name a class, no anchors, which can blow up, no key twice."""
    try:
        import yaml
    except ImportError:
        raise MissingValueError(
            f"reading {name} needs PyYAML: pip install 'pruninfersim[yaml]', or write it as JSON"
        ) from None

    depth = 0
    try:
        for token in yaml.scan(text, Loader=yaml.SafeLoader):
            depth += OPENS.get(type(token).__name__, 0)
            if depth > DEEPEST:
                raise FileFormatError(f"{name} is nested too deep, in line {token.start_mark.line + 1}")
            if isinstance(token, yaml.TagToken | yaml.AnchorToken | yaml.AliasToken):
                what = type(token).__name__.removesuffix("Token").lower()
                raise FileFormatError(f"{name}: a YAML {what} in line {token.start_mark.line + 1}; write plain values")
        for node in _nodes(yaml.compose(text, Loader=yaml.SafeLoader)):
            if isinstance(node, yaml.MappingNode):
                keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
                if twice := next((key for key, times in keys.items() if times > 1), None):
                    raise FileFormatError(f"{name} has the key {twice!r} twice in line {node.start_mark.line + 1}")
        return yaml.safe_load(text)
    except FileFormatError:
        raise
    except (yaml.YAMLError, ValueError) as error:  # ValueError: numbers and dates that are none
        raise FileFormatError(f"{name} is no YAML: {str(error).splitlines()[0]}") from None


def _nodes(node: Any) -> Iterator[Any]:
    if node is None:
        return
    yield node
    if isinstance(node.value, list):
        for child in node.value:
            for each in child if isinstance(child, tuple) else (child,):
                yield from _nodes(each)


def _entries(content: Any, name: str, depth: int = 0) -> Iterator[Mapping[str, Any]]:
    if depth > DEEPEST:
        raise FileFormatError(f"{name} is nested too deep")
    if isinstance(content, Mapping):
        if "type" in content and "target" in content:
            if content.get("enabled", True):
                yield content
            return
        content = list(content.values())
    if isinstance(content, list):
        for each in content:
            yield from _entries(each, name, depth + 1)


def _family(entry: Mapping[str, Any], name: str) -> tuple[str, str]:
    """Return the method of an entry, and the block that it prunes; "" is all of the layers."""
    if strange := sorted({str(key) for key in entry} - set(KEYS)):
        raise FileFormatError(f"{name}: an entry has {strange[0]!r}; known are {', '.join(KEYS)}")
    kind, target = (re.sub(r"[^a-z0-9]+", "_", str(entry[key]).lower()).strip("_") for key in ("type", "target"))
    if kind in FAMILIES and (target in EVERYTHING or target in BLOCKS):
        return FAMILIES[kind], BLOCKS.get(target, "")
    if f"{kind}_{target}" in FAMILIES:
        return FAMILIES[f"{kind}_{target}"], ""
    raise FileFormatError(
        f"{name}: type {entry['type']!r} with target {entry['target']!r} is no family; known are "
        f"{', '.join(FAMILIES)}, with a block as target, or type and target apart"
    )


def _sparsity(entry: Mapping[str, Any], given: float | None, name: str) -> float:
    own = entry.get("sparsity", entry.get("ratio"))
    estimated = _number(entry.get("estimated_sparsity", TAKE_GIVEN), name)
    value = estimated if estimated != TAKE_GIVEN else given if own is None else own
    if value is None:
        raise MissingValueError(f"{name} takes the given sparsity, and none is given: read_study(path, sparsity=0.5)")
    number = _number(value, name)
    if not 0 <= number < 1:
        raise FileFormatError(f"{name}: a sparsity is a fraction removed in [0, 1); got {number:g}")
    return number


# --- results --------------------------------------------------------------------------------------------------------


def _cells(line: str) -> list[str]:
    if "|" in line:
        return [cell.strip() for cell in line.strip().strip("|").split("|")]
    if "," in line:
        return [cell.strip() for cell in next(csv.reader([line]))]
    return re.split(r"\s{2,}|\t", line.strip())


def _plain(cell: str) -> str:
    """Return a head without its unit, in words."""
    return re.sub(r"[_\s-]+", " ", re.sub(r"[\[(].*", "", cell.lower())).strip()


def _row(cells: Mapping[str, str], name: str) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for column, cell in cells.items():
        if column == "method":
            row[column] = FAMILIES.get(re.sub(r"[^a-z0-9]+", "_", cell.lower()).strip("_"), cell)
        elif column == "phase":
            row[column] = PHASES.get(cell.lower(), cell.lower())
        elif column in ("model", "hardware"):
            row[column] = cell
        elif column in ("sparsity", "batch", "context"):
            row[column] = _number(cell, name)
    parts = [_number(cells[key], name) for key in (["speedup"] if "speedup" in cells else ["dense", "pruned"])]
    if min(parts) <= 0:
        raise FileFormatError(f"{name}: speedups and times are above 0; got {min(parts):g}")
    return row | {"measured": parts[0] / (parts[1] if len(parts) > 1 else 1.0)}


def _number(value: Any, name: str) -> float:
    """Return a number, also one written as 50%, 1.5x, 8k or 12.3 ms."""
    text = str(value).strip().lower()
    found = re.fullmatch(r"([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)\s*(%|x|×|k|ms|us|s)?", text)
    if found is None or isinstance(value, bool):
        raise FileFormatError(f"{name}: {shown(value)} is no number")
    number = float(found[1])
    if not math.isfinite(number):
        raise FileFormatError(f"{name}: {shown(value)} is too large")
    return number * {"%": 0.01, "k": 1024.0}.get(found[2] or "", 1.0)
