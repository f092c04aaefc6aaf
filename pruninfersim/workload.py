"""Workloads: how many sequences, how many tokens each, and which phase of inference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Never

import numpy as np
from numpy.typing import ArrayLike

from pruninfersim._util.arrays import TOO_LARGE, FloatArray, ReadOnly, checked, frozen
from pruninfersim._util.defaults import CONTEXT, NEW_TOKENS
from pruninfersim._util.doors import doors
from pruninfersim._util.words import refuse
from pruninfersim.errors import InvalidInputError, shown, unknown_name

#: How tokens spread over routed experts: each picks at random, as even as whole tokens allow, or by popularities that
#: are drawn from x^-a, the more skewed the larger a.
ROUTINGS = ("uniform", "balanced", "power_law_1.01", "power_law_1.2")

Phase = Literal["prefill", "decode"]
Logits = Literal["last", "all"]


def checked_routing(routing: str) -> str:
    """Return the name of a routing.

    Raises
    ------
    UnknownNameError
        If it is none of `ROUTINGS`.

    >>> checked_routing("balanced")
    'balanced'
    """
    if routing not in ROUTINGS:
        raise unknown_name("routing", routing, ROUTINGS)
    return routing


@doors
@dataclass(frozen=True, eq=False, repr=False)
class Workload(ReadOnly):
    """One forward pass of a model; array fields are sweep axes and broadcast together.

    Use `Workload.prefill` or `Workload.decode`, which check their input.

    Attributes
    ----------
    phase : {"prefill", "decode"}
    batch : ndarray, shape (*sweep)
        Sequences in the batch.
    query_len : ndarray, shape (*sweep)
        New tokens per sequence (1 in decode).
    context : ndarray, shape (*sweep)
        Keys that the last new token attends to, itself included.
    logits : {"last", "all"}
        Tokens per sequence that pass the LM head.
    causal : bool
        Whether a token attends to earlier tokens only.
    routing : {"uniform", "balanced", "power_law_1.01", "power_law_1.2"}
        How tokens spread over the routed experts of a mixture: it decides which weights a small batch reads.
    """

    phase: Phase
    batch: FloatArray
    query_len: FloatArray
    context: FloatArray
    logits: Logits = "last"
    causal: bool = True
    routing: str = "uniform"

    @classmethod
    def prefill(
        cls,
        batch: ArrayLike = 1,
        tokens: ArrayLike = CONTEXT,
        *,
        context: ArrayLike | None = None,
        prefix: ArrayLike = 0,
        logits: Logits = "last",
        causal: bool = True,
        routing: str = "uniform",
        **other: Never,
    ) -> Workload:
        """Process `tokens` prompt tokens per sequence.

        Parameters
        ----------
        batch : array_like
            Sequences, whole and at least 1.
        tokens : array_like
            New prompt tokens per sequence, whole and at least 1.
        context : array_like, optional
            In place of `tokens`: prompt tokens and prefix together.
        prefix : array_like
            Tokens that are already in the KV cache (chunked prefill).
        logits : {"last", "all"}
            Whether the LM head runs on the last token of a sequence or on every token.
        causal : bool
            False counts full attention, as some published FLOP counts do.
        routing : {"uniform", "balanced", "power_law_1.01", "power_law_1.2"}
            How tokens spread over routed experts.

        Raises
        ------
        InvalidInputError
            If a shape is not a positive whole number, or the arrays do not broadcast.
        UnknownNameError
            If `routing` is none of these.

        >>> Workload.prefill(batch=2, tokens=1024).tokens
        array(2048.)
        """
        refuse("prefill", other, ["batch", "tokens", "context", "prefix", "logits", "causal", "routing"])
        if context is not None and not (isinstance(tokens, int) and tokens == CONTEXT):
            raise InvalidInputError("give tokens (new ones) or context (with the prefix), not both")
        if context is not None:
            tokens = checked("context", context, minimum=1, below=TOO_LARGE, whole=True) - np.asarray(prefix, float)
        query = checked("tokens", tokens, minimum=1, below=TOO_LARGE, whole=True)
        before = checked("prefix", prefix, minimum=0, below=TOO_LARGE, whole=True)
        try:
            context = query + before
        except ValueError:
            raise InvalidInputError(
                f"tokens of shape {query.shape} and prefix of shape {before.shape} do not broadcast; "
                "give arrays of equal shape, add axes with [:, None], or let pruninfersim.sweep cross them"
            ) from None
        return cls._build("prefill", batch, query, context, logits, causal, routing)

    @classmethod
    def decode(
        cls, batch: ArrayLike = 1, context: ArrayLike = CONTEXT, *, routing: str = "uniform", **other: Never
    ) -> Workload:
        """Generate one token per sequence; `context` counts the keys attended to, the new one included.

        Raises
        ------
        InvalidInputError
            If a shape is not a positive whole number, or the arrays do not broadcast.
        UnknownNameError
            If `routing`, which says how tokens spread over routed experts, is not known.

        >>> Workload.decode(batch=[1, 8], context=4096).shape
        (2,)
        """
        refuse("decode", other, ["batch", "context", "routing"])
        return cls._build(
            "decode",
            batch,
            1,
            checked("context", context, minimum=1, below=TOO_LARGE, whole=True),
            "last",
            True,
            routing,
        )

    @classmethod
    def of(cls, phase: str, batch: ArrayLike = 1, context: ArrayLike = CONTEXT, logits: Logits = "last") -> Workload:
        """Return the workload of a phase by name; `context` is the prompt length in prefill.

        Raises
        ------
        UnknownNameError
            If the phase is neither "prefill" nor "decode".
        InvalidInputError
            As `prefill` and `decode`.

        >>> Workload.of("prefill", batch=4, context=128).tokens
        array(512.)
        """
        if phase == "prefill":
            prompt = checked("context", context, minimum=1, below=TOO_LARGE, whole=True)
            return cls.prefill(batch=batch, tokens=prompt, logits=logits)
        if phase == "decode":
            return cls.decode(batch=batch, context=context)
        raise unknown_name("phase", phase, ["prefill", "decode"])

    @classmethod
    def _build(
        cls,
        phase: Phase,
        batch: ArrayLike,
        query: ArrayLike,
        context: ArrayLike,
        logits: Logits,
        causal: bool,
        routing: str,
    ) -> Workload:
        if not isinstance(causal, bool | np.bool_):
            raise InvalidInputError(f"causal must be True or False; got {shown(causal)}")
        if logits not in ("last", "all"):
            raise unknown_name("value of logits", logits, ["last", "all"])
        checked_routing(routing)
        sequences = checked("batch", batch, minimum=1, below=TOO_LARGE, whole=True)
        workload = cls(phase, frozen(sequences), frozen(query), frozen(context), logits, causal, routing)
        for name, values in (("batch", sequences), ("tokens", workload.query_len), ("context", workload.context)):
            if not values.size:
                raise InvalidInputError(f"{name} is empty; give at least one number")
        try:
            _ = workload.shape
        except ValueError:
            raise InvalidInputError(
                f"batch of shape {sequences.shape} and lengths of shape {np.shape(context)} do not broadcast; "
                "give arrays of equal shape, add axes with [:, None], or let pruninfersim.sweep cross them"
            ) from None
        return workload

    def __repr__(self) -> str:
        lengths = {"batch": self.batch, "new tokens": self.query_len, "context": self.context}
        if self.phase == "decode":
            del lengths["new tokens"]
        parts = [self.phase, *(f"{name} {_ends(values)}" for name, values in lengths.items())]
        parts += [f"logits {self.logits}"] if self.logits != "last" else []
        parts += ["not causal"] if not self.causal else []
        parts += [f"routing {self.routing}"] if self.routing != "uniform" else []
        parts += [f"sweep {self.shape}"] if self.shape else []
        return f"<Workload {', '.join(parts)}>"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the sweep: the axes that all array fields broadcast to."""
        return np.broadcast_shapes(self.batch.shape, self.query_len.shape, self.context.shape)

    @property
    def tokens(self) -> FloatArray:
        """New tokens in the whole batch, the M of every linear layer."""
        return np.asarray(self.batch * self.query_len)

    @property
    def head_tokens(self) -> FloatArray:
        """Tokens that pass the LM head."""
        return np.asarray(self.batch * (self.query_len if self.logits == "all" else 1.0))

    @classmethod
    def request(
        cls, batch: ArrayLike = 1, prompt: ArrayLike = CONTEXT, new_tokens: ArrayLike = NEW_TOKENS
    ) -> RequestWorkload:
        """Process a prompt and generate tokens after it: one prefill, and a decode step for every token but the first.

        Parameters
        ----------
        batch, prompt, new_tokens : array_like
            Sequences at a time, and tokens per sequence; whole and at least 1.

        Raises
        ------
        InvalidInputError
            If a number is not positive and whole, or the arrays do not broadcast.

        >>> work = Workload.request(batch=8, prompt=1024, new_tokens=256)
        >>> float(work.steps), float(work.middle.context)
        (255.0, 1152.0)
        """
        new = checked("new_tokens", new_tokens, minimum=1, below=TOO_LARGE, whole=True)
        first = cls.prefill(batch=batch, tokens=checked("prompt", prompt, minimum=1, below=TOO_LARGE, whole=True))
        # Contexts of the steps are prompt + 1 to prompt + new - 1; a step is linear in its context almost everywhere.
        middle = first.context + np.maximum(np.floor(new / 2.0), 1.0)
        return RequestWorkload(first, cls.decode(batch=batch, context=middle), frozen(new))


@dataclass(frozen=True, eq=False)
class RequestWorkload(ReadOnly):
    """A request from prompt to last token; made by `Workload.request`.

    Attributes
    ----------
    prefill : Workload
        Of the prompt.
    middle : Workload
        The decode step at the middle of the contexts that the request goes through: the time of all steps is this one
        times their number within 1 % of the exact sum over contexts.
    new_tokens : ndarray, shape (*sweep)
        Tokens that come out.
    """

    prefill: Workload
    middle: Workload
    new_tokens: FloatArray

    @property
    def steps(self) -> FloatArray:
        """Decode steps: the first token comes out of the prefill."""
        return np.asarray(self.new_tokens - 1.0)


def _ends(values: FloatArray) -> str:
    """Return one number, or the ends of those along a sweep."""
    low, high = float(values.min()), float(values.max())
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"
