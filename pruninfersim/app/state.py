"""The question that the page asks, as a frozen value: read from a link or from the controls, and written as a link."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any
from urllib.parse import parse_qs, urlencode

from pruninfersim import hardware, models, stacks
from pruninfersim._util.arrays import TOO_LARGE
from pruninfersim._util.defaults import CONTEXT, NEW_TOKENS, PHASES
from pruninfersim._util.numerals import count
from pruninfersim.app import uploads
from pruninfersim.errors import InvalidInputError, PruninfersimError, unknown_name
from pruninfersim.hardware import precision
from pruninfersim.pruning import spelling

#: Figures that the page can show -> what their tabs are called.
VIEWS = {
    "waterfall": "Why not faster", "sparsity": "Over sparsity", "roofline": "Roofline", "map": "Batch × context",
    "gpus": "GPUs", "pareto": "Quality",
}  # fmt: skip
#: Methods and GPUs that are compared at most.
MOST_METHODS, MOST_GPUS = 6, 8


@dataclass(frozen=True)
class State:
    """Everything that the page shows follows from this.

    Attributes
    ----------
    model : str
        Built-in name; of no effect beside `config`.
    config : str
        Uploaded ``config.json``, packed; empty without one.
    gpus : tuple of str
    stack, dtype, phase : str
        An empty dtype is the model's own.
    batch, context : int
        Sequences; prompt tokens or keys attended to.
    prompt, new_tokens : int
        Tokens of a request.
    methods : tuple of str
        Each as `pruninfersim.pruning.spelling` reads it.
    quality : str
        Uploaded quality table, packed; empty for the published one.
    view : str
        Figure that is shown.

    >>> State(batch=16).query
    '?batch=16'
    """

    model: str = "llama-3.1-8b"
    config: str = ""
    gpus: tuple[str, ...] = ("h100-sxm", "l40s")
    stack: str = stacks.DEFAULT
    dtype: str = ""
    phase: str = "prefill"
    batch: int = 1
    context: int = CONTEXT
    prompt: int = CONTEXT
    new_tokens: int = NEW_TOKENS
    methods: tuple[str, ...] = ("static-width@0.5", "semi-structured@0.5")
    quality: str = ""
    view: str = "waterfall"

    @property
    def query(self) -> str:
        """The part of a link that says all that is not the default."""
        default = State()
        changed = {f.name: v for f in fields(self) if (v := getattr(self, f.name)) != getattr(default, f.name)}
        return "?" + urlencode(changed, doseq=True, safe="@/") if changed else ""


def from_query(search: str) -> tuple[State, dict[str, str]]:
    """Return the state of a link, defaults where it says nothing, and what is wrong with it, field by field.

    >>> state, errors = from_query("?batch=16&gpus=l40s&context=much")
    >>> state.batch, state.gpus, state.context, errors
    (16, ('l40s',), 1024, {'context': "'much' is not a whole number such as 2048 or 8k (without separators)"})
    """
    try:
        given = parse_qs(search.removeprefix("?"), keep_blank_values=True, max_num_fields=50)
    except ValueError:
        return State(), {"link": "the link has too many parts"}
    known = [f.name for f in fields(State)]
    foreign = [str(unknown_name("part of the link", name, known)) for name in given if name not in known]
    errors = {"link": foreign[0]} if foreign else {}
    state, wrong = read({name: values for name, values in given.items() if name in known})
    return state, errors | wrong


def read(given: Mapping[str, Any]) -> tuple[State, dict[str, str]]:
    """Return the state that fields ask for, defaults where they say nothing or something wrong, and what is wrong.

    Parameters
    ----------
    given : mapping
        Field -> text, or several texts.

    Returns
    -------
    State, dict of str to str
        Field -> what is wrong with it.
    """
    values: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for name, value in given.items():
        texts = [str(text).strip() for text in (value if isinstance(value, list | tuple) else [value])]
        try:
            values[name] = READERS[name](texts)
        except (PruninfersimError, ValueError) as error:
            errors[name] = str(error)
    return State(**values), errors


def _one(texts: Sequence[str]) -> str:
    if len(texts) != 1:
        raise InvalidInputError(f"needs one value; got {len(texts)}")
    return texts[0]


def _name(kind: str, known: Callable[[], Sequence[str]]) -> Callable[[Sequence[str]], str]:
    def chosen(texts: Sequence[str]) -> str:
        if _one(texts) not in known():
            raise unknown_name(kind, texts[0], known())
        return texts[0]

    return chosen


def _model(texts: Sequence[str]) -> str:
    """Return the built-in model that a name means; what looks like a file is not opened."""
    name = _one(texts)
    if not name:
        raise InvalidInputError("needs a model: a name of the list, or of the Hugging Face hub")
    if name.endswith(".json"):
        raise InvalidInputError("no file is opened by its name; upload the config.json")
    return models.get(name).name


def _gpus(texts: Sequence[str]) -> tuple[str, ...]:
    known = hardware.names()
    for text in texts:
        if text not in known:
            raise unknown_name("GPU", text, known)
    if not 1 <= len(set(texts)) <= MOST_GPUS:
        raise InvalidInputError(f"choose 1 to {MOST_GPUS} GPUs; got {len(set(texts))}")
    return tuple(dict.fromkeys(texts))


def _dtype(texts: Sequence[str]) -> str:
    return precision.get(texts[0]).dtype if _one(texts) else ""


def _count(texts: Sequence[str]) -> int:
    value = count(_one(texts))
    if not 1 <= value < TOO_LARGE:
        raise InvalidInputError(f"must be a whole number of at least 1, and not beyond {TOO_LARGE:g}; got {value}")
    return value


def _methods(texts: Sequence[str]) -> tuple[str, ...]:
    several = tuple(dict.fromkeys(spelled(text) for text in texts))
    if not 1 <= len(several) <= MOST_METHODS:
        raise InvalidInputError(f"choose 1 to {MOST_METHODS} methods; got {len(several)}")
    return several


def spelled(text: str) -> str:
    """Return a method in its one spelling, after checking that it can be made.

    >>> spelled("static-width@25%")
    'static-width@0.25'
    """
    parts = spelling.parts(text)
    if len(parts) > MOST_METHODS:
        raise InvalidInputError(f"at most {MOST_METHODS} methods one after the other")
    spelling.combined(parts)
    return spelling.THEN.join(str(part) for part in parts)


def _config(texts: Sequence[str]) -> str:
    if _one(texts):
        uploads.model_of(uploads.unpacked(texts[0], "the model"))
    return texts[0]


def _quality(texts: Sequence[str]) -> str:
    if _one(texts):
        uploads.table_of(uploads.unpacked(texts[0], "the quality table"))
    return texts[0]


#: Field -> how its texts are read.
READERS: dict[str, Callable[[Sequence[str]], Any]] = {
    "model": _model,
    "config": _config,
    "gpus": _gpus,
    "stack": _name("engine", stacks.names),
    "dtype": _dtype,
    "phase": _name("phase", lambda: PHASES),
    "batch": _count,
    "context": _count,
    "prompt": _count,
    "new_tokens": _count,
    "methods": _methods,
    "quality": _quality,
    "view": _name("figure", lambda: list(VIEWS)),
}
