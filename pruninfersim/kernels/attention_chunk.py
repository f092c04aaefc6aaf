"""Attention of prompts and of short chunks of them: few queries on many keys have their keys split, as in decode."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pruninfersim._util.arrays import FloatArray
from pruninfersim.hardware import HardwareProfile
from pruninfersim.kernels.base import Cache, KernelModel, smooth
from pruninfersim.trace import OpTrace


@dataclass(frozen=True)
class ChunkAttention:
    """Time of causal attention of any number of queries on the keys before them, of prompts and of short chunks.

    A prompt runs in tiles of queries that walk the keys before them (`PrefillAttention`). Where queries x heads of a
    group fill few tiles, libraries split the keys of a tile among CTAs as in decode (`DecodeAttention`): the last chunk
    of a prompt, verification of drafted tokens. A tile then walks all keys, also those that the causal mask hides.
    Prompts and single queries were timed, chunks between them were not; they are interpolated between the two by the
    share of the keys that are queries themselves::

        T = T_whole x min(1, T_split / T_whole) ^ (1 - queries / keys)

    so that a prompt costs what was timed, one query what a decode step costs, and more queries never less.

    Attributes
    ----------
    whole : KernelModel
        Prices tiles that walk all their keys.
    split : KernelModel
        Prices tiles whose keys are split.

    >>> from pruninfersim.kernels.base import Roofline
    >>> ChunkAttention(Roofline(), Roofline()).whole
    Roofline()
    """

    whole: KernelModel
    split: KernelModel

    def without_quantisation(self) -> KernelModel:
        """Return the same kernel in fractions of tiles and waves."""
        return replace(self, whole=smooth(self.whole), split=smooth(self.split))

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the time of one run of each op, shape (*sweep, op) [s].

        Raises
        ------
        MissingValueError
            If the profile lacks a figure that either way needs.
        """
        whole, split = (way.latency(ops, hardware, cache=cache) for way in (self.whole, self.split))
        return np.asarray(whole * np.minimum(split / whole, 1.0) ** (1.0 - np.minimum(ops.m / ops.n, 1.0)))
