"""What a GPU can do at most: profiles with a source for each figure, and the number formats that they compute in."""

from pruninfersim._util.lazy import shows
from pruninfersim.hardware.profile import (
    DTYPES,
    SEARCH_PATH_VARIABLE,
    HardwareProfile,
    get,
    load,
    names,
    profiles_directory,
)
from pruninfersim.hardware.table import table

__all__ = ["DTYPES", "SEARCH_PATH_VARIABLE", "HardwareProfile", "get", "load", "names", "profiles_directory", "table"]

__dir__ = shows(__all__)
