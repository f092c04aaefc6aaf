"""Names of GPUs as people and drivers write them: `nvidia-smi`, torch, data sheets, and the shipped profiles' own.

A name is read as a set of words. A profile fits if the name has its product word (``h100``) and no word that the
profile does not know: its own name and title, its vendor, memory and architecture. So ``NVIDIA H100 80GB HBM3`` is
the one H100 with 80 GB of HBM3, and ``A100`` fits several, which is an error that lists them.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pruninfersim.errors import UnknownNameError, shown, unknown_name

if TYPE_CHECKING:
    from pruninfersim.hardware.profile import HardwareProfile

#: Where all names are listed, for messages.
LISTING = "`pruninfersim hardware` lists all"
#: Words that say nothing about which product it is.
NOISE = frozenset(
    {"gpu", "tensor", "core", "graphics", "accelerator", "edition", "generation", "corporation", "oam", "ac"}
)
#: What the products of a vendor are called, besides its name.
BRANDS = {
    "nvidia": ("geforce", "tesla", "dgx"), "amd": ("instinct",), "intel": ("habana",), "google": ("cloud",),
}  # fmt: skip
#: Words that mean the same.
SYNONYMS = {"sxm2": "sxm", "sxm3": "sxm", "sxm4": "sxm", "sxm5": "sxm", "sxm6": "sxm", "bse": "server"}
#: Words of a driver's name that no figure of the profile holds. The driver of a GH200 counts the memory of its CPU, 480
#: GB; Max-Q boards are workstation boards.
ALSO = {
    "gh200-96gb": ("480gb",), "gh200-144gb": ("144g",), "rtx-pro-6000-max-q": ("workstation",),
    "tpu-v5e": ("v5litepod",), "tpu-v6e": ("trillium",), "jetson-agx-orin": ("developer", "kit"),
}  # fmt: skip
#: Words of a shipped name that are a product by themselves, besides those with a digit.
PRODUCTS = frozenset({"orin", "trillium", "v5litepod", "spark"})


def words(text: str) -> list[str]:
    """Return the words of a name, without those that say nothing.

    >>> words("NVIDIA A100-SXM4-80 GB"), words("Intel(R) Arc(TM) Pro B60 Graphics")
    (['nvidia', 'a100', 'sxm', '80gb'], ['intel', 'arc', 'pro', 'b60'])
    """
    plain = re.sub(r"\((r|tm)\)", " ", text.lower())
    plain = re.sub(r"\b(v\d) lite\b", r"\1e", plain)  # JAX: "TPU v5 lite"
    plain = re.sub(r"(\d)\s+gb\b", r"\1gb", re.sub(r"\brtx(?=\d)", "rtx ", plain))
    found = re.findall(r"[a-z0-9]+", plain)
    return [SYNONYMS.get(word, word) for word in found if word not in NOISE]


def find(name: str, profiles: Mapping[str, HardwareProfile]) -> str:
    """Return the one profile that a name means.

    Parameters
    ----------
    name : str
        As a person, `nvidia-smi` or torch writes it.
    profiles : mapping of str to HardwareProfile
        All that there are, by their own names.

    Raises
    ------
    UnknownNameError
        If none fits, with what is near; or if several fit, with their names.

    >>> from pruninfersim import hardware
    >>> hardware.get("NVIDIA GeForce RTX 4090").name, hardware.get("H100 80GB HBM3").name
    ('rtx-4090', 'h100-sxm')
    >>> hardware.get("A800 PCIe")
    Traceback (most recent call last):
    pruninfersim.errors.UnknownNameError: unknown GPU 'A800 PCIe'. Did you mean 'a800-80gb'? `pruninfersim hardware` ...
    """
    asked = words(name)
    known = {own: _About(own, profile) for own, profile in profiles.items()}
    exact = [own for own, about in known.items() if about.is_exactly(asked)]
    if exact:  # of two, the one whose name says more of what was asked
        return max(exact, key=lambda own: len(known[own].name))
    fitting = [own for own, about in known.items() if about.fits(asked)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise UnknownNameError(f"GPU {shown(name)} is one of several: {', '.join(sorted(fitting))}. Say which.")
    raise unknown_name("GPU", name, profiles, near=_near(name, asked, known), listing=LISTING)


class _About:
    """The words of one profile."""

    def __init__(self, own: str, profile: HardwareProfile) -> None:
        vendor = profile.vendor.lower()
        self.name = words(own)
        self.vendor = {*words(vendor), *BRANDS.get(vendor, ())}
        self.extra = {*self.vendor, *words(f"{profile.memory_type} {profile.architecture}")}
        self.extra |= {f"{profile.memory_size / 1e9:.0f}gb", *ALSO.get(own, ())}
        self.extra |= set(words(profile.title))
        digits = {word for word in self.name if re.search(r"\d", word) and not re.fullmatch(r"\d+gb?", word)}
        numbers = {word for word in self.name if re.fullmatch(r"\d{3,}", word)}
        self.products = digits | numbers | (PRODUCTS & {*self.name, *self.extra})

    def fits(self, asked: list[str]) -> bool:
        """Whether the name has a product word and no word that is foreign to this profile."""
        given = set(asked)
        return bool(given & self.products) and given <= {*self.name, *self.extra}

    def is_exactly(self, asked: list[str]) -> bool:
        """Whether the name says all of the profile's own name, and besides it only what the profile has anyway."""
        given = [word for word in asked if word in self.name or word not in self.extra]
        compact = "".join(word for word in asked if word not in self.vendor)
        return set(given) == set(self.name) or compact == "".join(self.name)


def _near(name: str, asked: list[str], known: Mapping[str, _About]) -> list[str]:
    """Return up to three near names: of the same product, or else of the same figures and spelled almost alike."""
    same = [own for own, about in known.items() if set(asked) & about.products]
    if same:
        return difflib.get_close_matches(name.lower(), same, n=1, cutoff=0.6) or sorted(same)[:3]
    figures = re.findall(r"\d+", name)
    alike = [own for own in known if re.findall(r"\d+", own) == figures]
    return difflib.get_close_matches("-".join(asked), alike, n=1, cutoff=0.6)
