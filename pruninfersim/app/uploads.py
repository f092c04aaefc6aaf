"""Files that a reader uploads: bounded, read by the strict readers of the library, packed so that a link holds them."""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pruninfersim.errors import FileFormatError, InvalidInputError
from pruninfersim.models import ModelConfig
from pruninfersim.questions.pareto import published_quality, quality_of

if TYPE_CHECKING:
    import pandas as pd

#: Largest file that is taken [B], and largest text of it, compressed, in a link.
LARGEST, LARGEST_PACKED = 1_000_000, 24_000
#: Layers of a configuration beyond which it is no model, but a way to keep the computer busy.
MOST_LAYERS = 1_000
#: Letters of a name that are shown.
NAME_LENGTH = 60


def content(data_url: str, what: str) -> str:
    """Return the text of a file as a browser uploads it.

    Raises
    ------
    InvalidInputError
        If it is too large, or no text.

    >>> content("data:text/plain;base64,aGVsbG8=", "the file")
    'hello'
    """
    head, comma, body = data_url.partition(",")
    if not comma or not head.endswith(";base64"):
        raise InvalidInputError(f"{what} did not arrive as a file")
    if len(body) > LARGEST * 4 // 3 + 4:
        raise InvalidInputError(f"{what} is larger than {LARGEST // 1000} kB")
    try:
        return base64.b64decode(body, validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        raise InvalidInputError(f"{what} is not a text file") from None


def packed(text: str, what: str) -> str:
    """Return a text as one word for a link.

    Raises
    ------
    InvalidInputError
        If it is too long for one.

    >>> unpacked(packed("hello", "the file"), "the file")
    'hello'
    """
    word = base64.urlsafe_b64encode(zlib.compress(text.encode(), 9)).decode().rstrip("=")
    if len(word) > LARGEST_PACKED:
        raise InvalidInputError(f"{what} is too long for a link: {len(word)} letters, at most {LARGEST_PACKED}")
    return word


def unpacked(word: str, what: str) -> str:
    """Return the text in a word of a link.

    Raises
    ------
    InvalidInputError
        If it is not what `packed` makes, or more than an upload may be.
    """
    try:
        if len(word) > LARGEST_PACKED:
            raise ValueError
        stream = zlib.decompressobj()
        raw = stream.decompress(base64.urlsafe_b64decode(word + "=" * (-len(word) % 4)), LARGEST)
        if stream.unconsumed_tail or not stream.eof:
            raise ValueError
        return raw.decode("utf-8")
    except (ValueError, zlib.error, binascii.Error):
        raise InvalidInputError(f"{what} of the link is damaged; upload the file again") from None


def config_text(text: str, filename: str) -> str:
    """Return an uploaded ``config.json`` as the short text that a link keeps, its name in it.

    Raises
    ------
    InvalidInputError, FileFormatError, UnknownNameError
        If it is not JSON, or not the configuration of a model that is known.

    >>> small = {"model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    ...          "num_attention_heads": 4, "vocab_size": 100}
    >>> json.loads(config_text(json.dumps(small), "tiny.json"))["_name_or_path"]
    'tiny'
    """
    keys = _object(text)
    stem = filename.rpartition("/")[2].removesuffix(".json")
    name = str(keys.get("_name_or_path") or "").strip("/").rpartition("/")[2] if stem in ("", "config") else stem
    keys["_name_or_path"] = (name or "uploaded model")[:NAME_LENGTH]
    short = json.dumps(keys, separators=(",", ":"))
    model_of(short)
    return short


def _object(text: str) -> dict[str, Any]:
    try:
        keys = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"not valid JSON ({error}). Is the file complete?") from None
    if not isinstance(keys, dict):
        raise FileFormatError(f"holds {type(keys).__name__}, not a JSON object with configuration keys")
    return keys


@lru_cache(maxsize=32)
def model_of(text: str) -> ModelConfig:
    """Return the model of a configuration; errors as `config_text`."""
    keys = _object(text)
    for part in (keys, keys.get("text_config")):
        layers = part.get("num_hidden_layers", 0) if isinstance(part, dict) else 0
        if isinstance(layers, int | float) and not layers <= MOST_LAYERS:
            raise InvalidInputError(f"num_hidden_layers is {layers:g}; at most {MOST_LAYERS} are taken here")
    return ModelConfig.from_hf(keys, name=str(keys.get("_name_or_path") or "uploaded model")[:NAME_LENGTH])


@lru_cache(maxsize=32)
def table_of(text: str) -> pd.DataFrame:
    """Return a quality table from its text, the published one from none; errors as `pruninfersim.pareto.read_quality`.

    >>> int(table_of("method,family,sparsity,gap_percent\\nmine,low-rank,0.5,9").gap_percent[0])
    9
    """
    return quality_of(text, "the table") if text else published_quality()
