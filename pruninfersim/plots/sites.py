"""Where the time is: seconds saved for each weight that is removed, by layer and role."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pruninfersim._util.arrays import FloatArray
from pruninfersim._util.doors import door
from pruninfersim.errors import InvalidInputError
from pruninfersim.plots.style import figure, titled
from pruninfersim.questions.sites import Sites

if TYPE_CHECKING:
    import plotly.graph_objects as go


class SitesInfo(NamedTuple):
    """Time saved for a million weights [s], shape (role, layer), at the best sparsity; NaN without a site."""

    roles: tuple[str, ...]
    layers: tuple[int, ...]
    saved: FloatArray
    case: str = ""


@door
def sites_info(found: Sites) -> SitesInfo:
    """Return what the figure shows.

    Raises
    ------
    InvalidInputError
        If it is no answer of `pruninfersim.where_to_prune`.

    >>> from pruninfersim import where_to_prune
    >>> info = sites_info(where_to_prune("llama-3.2-1b", "h100-sxm", "ideal"))
    >>> info.roles, info.saved.shape
    (('attention', 'mlp'), (2, 16))
    """
    if not isinstance(found, Sites):
        raise InvalidInputError("this figure is that of where_to_prune(model, hardware)")
    roles = tuple(dict.fromkeys(found.role))
    saved = np.full((len(roles), found.setup.model.num_layers), np.nan)
    place = (np.array([roles.index(role) for role in found.role]), found.layer)
    np.fmax.at(saved, place, 1e6 * found.per_parameter)
    return SitesInfo(roles, tuple(range(saved.shape[1])), saved, repr(found)[1:-1])


@door
def sites_figure(info: SitesInfo | Sites, title: str = "Time saved for a million weights") -> go.Figure:
    """Return the figure: a map of layers and roles.

    >>> from pruninfersim import where_to_prune
    >>> sites_figure(where_to_prune("llama-3.2-1b", "h100-sxm", "ideal")).data[0].type
    'heatmap'
    """
    if not isinstance(info, SitesInfo):
        info = sites_info(info)
    fig = figure(titled(title, info.case), "layer", "")
    fig.add_heatmap(
        z=1e6 * info.saved, x=info.layers, y=info.roles, colorscale="Cividis", xgap=1, ygap=1,
        colorbar={"title": "us"}, hovertemplate="layer %{x}, %{y}: %{z:.3g} us<extra></extra>",
    )  # fmt: skip
    fig.update_xaxes(showgrid=False)
    fig.update_yaxes(type="category", autorange="reversed", showgrid=False)
    return fig
