"""The built-in models, by their own name and by what the Hugging Face hub calls them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pruninfersim._util.doors import door
from pruninfersim.models.config import ModelConfig
from pruninfersim.models.hf.reading import read_json
from pruninfersim.models.names import find

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["get", "names", "table"]


@door
def get(name: str | Path | ModelConfig) -> ModelConfig:
    """Return a model configuration.

    Parameters
    ----------
    name : str, Path or ModelConfig
        Registry name, or what the Hugging Face hub calls the model or a tuned one of the same shapes, such as
        ``"meta-llama/Llama-3.1-8B-Instruct"``; path of a ``config.json`` (or of a directory that holds one); or a
        configuration, which is returned as it is.

    Raises
    ------
    UnknownNameError
        If there is no such model, with the nearest.
    FileFormatError
        If the file cannot be understood.

    >>> get("qwen3-14b").num_kv_heads, get("Qwen/Qwen3-14B").name
    (8, 'qwen3-14b')
    """
    if isinstance(name, ModelConfig):
        return name
    if isinstance(name, Path) or str(name).endswith(".json"):
        return ModelConfig.from_hf(name)
    known = _identifiers()
    return _named(name if name in known else find(str(name), known))


@door
def names() -> list[str]:
    """Return the names of all built-in configurations, sorted.

    >>> "gemma-2-9b" in names()
    True
    """
    return sorted(_entries())


@door
def table() -> pd.DataFrame:
    """Return the built-in configurations as a table: one row per name, one column per field, and the counts.

    >>> int(table().loc["llama-3.1-8b", "hidden_size"])
    4096
    """
    import pandas as pd

    rows = []
    for name in names():
        model = get(name)
        counts = {key: getattr(model, key) for key in ("parameters", "gemm_parameters", "layer_parameters")}
        fields = model.model_dump(exclude={"reference", "layers", "notes", "storage"})
        rows.append({**fields, **counts, "reference": model.reference})
    return pd.DataFrame(rows).set_index("name")


@cache
def _entries() -> dict[str, Any]:
    """Return the file of built-in configurations; it has Hugging Face keys, so that there is one way to read them."""
    return dict(read_json(Path(__file__).with_name("named.json")))


@cache
def _named(name: str) -> ModelConfig:
    """Return a built-in configuration."""
    entry = _entries()[name]
    model = ModelConfig.from_hf(entry["config"], name=name)
    reference = f"Hugging Face {entry['id']}; figures from {entry['source']}"
    return model.model_copy(update={"reference": reference})


@cache
def _identifiers() -> dict[str, str]:
    """Return what the Hugging Face hub calls each built-in configuration."""
    return {name: str(entry["id"]) for name, entry in _entries().items()}
