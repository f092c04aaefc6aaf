"""Reading a configuration from wherever it is: a file, a directory, a dict, an object of `transformers`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pruninfersim._util.files import read_text
from pruninfersim.errors import FileFormatError, InvalidInputError, UnknownNameError, shown
from pruninfersim.models.hf.families import LAYERED
from pruninfersim.models.hf.fields import DEFAULTS, family_of, fields_from_hf, supported, text_part
from pruninfersim.models.hf.quantisation import storage_of

M = TypeVar("M")


def read_config(config: Any, name: str | None, make: Callable[..., M]) -> M:
    """Return what `make` builds from the fields; arguments and errors as `ModelConfig.from_hf`."""
    content = config.to_dict() if hasattr(config, "to_dict") else config
    if isinstance(content, dict):
        return _from_keys(content, "configuration", name, InvalidInputError, "a Hugging Face configuration", make)
    if not isinstance(content, str | Path):
        raise InvalidInputError(
            f"from_hf takes a path, a directory, a dict or an object with to_dict(); got {type(config).__name__}"
        )
    file = Path(content)
    file = file / "config.json" if os.path.isdir(file) else file
    default = file.parent.name if file.stem == "config" and file.parent.name else file.stem
    return _from_keys(read_json(file), str(file), name or default, FileFormatError, f"file {file.name}", make)


def read_json(file: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises
    ------
    FileFormatError
        If the file cannot be read, is not JSON, or holds no object.
    """
    try:
        content = json.loads(read_text(file))
    except OSError as error:
        raise FileFormatError(f"{file}: cannot be read ({error.strerror}). Give the path of a config.json.") from None
    except RecursionError:
        raise FileFormatError(f"{file}: is nested too deeply to be a configuration.") from None
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError
        raise FileFormatError(f"{file}: is not valid JSON ({error}). Is the file complete?") from None
    if not isinstance(content, dict):
        raise FileFormatError(f"{file}: holds {type(content).__name__}, not a JSON object with configuration keys.")
    return content


def _from_keys(
    config: dict[str, Any],
    where: str,
    name: str | None,
    error: type[InvalidInputError | FileFormatError],
    origin: str,
    make: Callable[..., M],
) -> M:
    """Return what `make` builds; what is wrong with `config` is raised as `error` and starts with `where`."""
    text = text_part(config)
    if "model_type" not in text:
        raise error(f"{where}: the key model_type is missing. Supported: {', '.join(supported())}.")
    family = family_of(text)
    if family not in DEFAULTS and family not in LAYERED:
        raise UnknownNameError(
            f"{where}: model_type {shown(text['model_type'])} is not supported. Supported are {', '.join(supported())}."
        )
    label = name or str(text.get("_name_or_path") or config.get("_name_or_path") or text["model_type"])
    if text is not config and "vision_config" in config:
        origin = f"the language model of {origin} (type {config.get('model_type')}), without its encoders"
    try:
        fields = fields_from_hf(text)
        stored = storage_of({**text, **config})
        fields |= {"dtype": stored.dtype, "notes": (stored.remarks,) if stored.remarks else (), "storage": stored}
        return make(name=label, reference=origin, **fields)
    except KeyError as missing:
        raise error(
            f"{where}: the key {missing.args[0]} is missing; it is required for {text['model_type']}."
        ) from None
    except InvalidInputError as invalid:
        raise error(f"{where}: {invalid}") from None
    except (TypeError, ZeroDivisionError, AttributeError):
        raise error(f"{where}: sizes must be positive whole numbers.") from None
