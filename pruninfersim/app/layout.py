"""The controls at the left and the places of the answers at the right: one page, with a label for each control."""

from __future__ import annotations

from typing import Any

from dash import dcc, html

from pruninfersim import hardware, models, stacks
from pruninfersim.app import rows
from pruninfersim.app.state import MOST_METHODS, VIEWS, State
from pruninfersim.app.uploads import LARGEST
from pruninfersim.hardware import precision
from pruninfersim.pruning import EVERY
from pruninfersim.report.page import CONFIG as OF_REPORTS

#: As the figures of reports: without a logo and without a button that would send them elsewhere.
CONFIG: Any = dict(OF_REPORTS) | {"modeBarButtonsToRemove": ["select2d", "lasso2d", "toImage"]}
#: Field of the state -> id of the control that its errors stand beside.
PLACES = {
    "link": "link", "model": "model", "config": "config", "gpus": "gpus", "stack": "stack", "dtype": "dtype",
    "phase": "phase", "batch": "batch", "context": "context", "prompt": "prompt", "new_tokens": "new_tokens",
    "methods": "methods", "quality": "quality", "view": "view",
}  # fmt: skip


def page(state: State) -> Any:
    """Return the whole page, with the controls as a state has them."""
    return html.Div(
        [
            dcc.Location(id="address", refresh=False),
            dcc.Store(id="state", data=None),
            dcc.Store(id="config", data=state.config),
            dcc.Store(id="quality", data=state.quality),
            dcc.Store(id="from-link", data={}),
            dcc.Download(id="download"),
            html.A("Skip to the results", href="#results", className="skip"),
            _head(),
            html.Main([_controls(state), _results(state)], className="page"),
        ]
    )


def _head() -> Any:
    return html.Header(
        [
            html.H1("Pruning explorer"),
            html.P("How much faster can a pruned LLM get on a GPU, and why not more? Predicted, without a GPU."),
            html.Div(
                [
                    html.Button("Copy link", id="copy-link", type="button"),
                    html.Button("Dark or light", id="theme", type="button"),
                ],
                className="buttons",
            ),
        ]
    )


def error_id(field: str) -> str:
    """Return the id of the place beside a control where its errors stand."""
    return f"error-{PLACES.get(field, field)}".replace(".", "-")


def _error(field: str) -> Any:
    return html.Div(id=error_id(field), className="error", role="alert")


def _field(label: str, control: Any, field: str, hint: str = "") -> Any:
    """Return a control with its label, a hint, and the place for its errors."""
    parts = [html.Label(label, htmlFor=control.id), control]
    parts += [html.Small(hint, className="hint")] if hint else []
    return html.Div([*parts, _error(field)], className="field")


def _number(name: str, value: int) -> Any:
    return dcc.Input(id=name, value=str(value), type="text", inputMode="numeric", debounce=0.2, autoComplete="off")


def _choices(names: Any) -> list[dict[str, str]]:
    return [{"label": name, "value": name} for name in names]


def _controls(state: State) -> Any:
    return html.Form(
        [
            html.H2("Question", id="question-title"),
            _error("link"),
            _field(
                "Model",
                dcc.Input(id="model", value=state.model, type="text", list="models", debounce=0.4, autoComplete="off",
                          spellCheck=False),
                "model", "A name of the list, or of the Hugging Face hub.",
            ),
            html.Datalist([html.Option(value=name) for name in models.names()], id="models"),
            html.Div(
                [
                    dcc.Upload(
                        html.Button("Upload config.json", type="button"), id="upload-config", accept=".json",
                        max_size=LARGEST, className="upload",
                    ),
                    html.Div(id="uploaded-config", className="uploaded"),
                    html.Button("Forget the file", id="forget-config", type="button", hidden=True),
                    _error("config"),
                ],
                className="field",
            ),
            _field(
                "GPUs", dcc.Dropdown(id="gpus", options=_choices(hardware.names()), value=list(state.gpus), multi=True),
                "gpus", "The first one is looked at closely.",
            ),
            html.Div(
                [
                    _field("Engine", dcc.Dropdown(
                        id="stack", options=_choices(stacks.names()), value=state.stack, clearable=False), "stack"),
                    _field("Precision", dcc.Dropdown(
                        id="dtype", value=state.dtype, clearable=False, options=[
                            {"label": "model's own", "value": ""}, *_choices(precision.PRECISIONS)]), "dtype"),
                ],
                className="pair",
            ),
            html.Fieldset(
                [
                    html.Legend("Phase"),
                    dcc.RadioItems(id="phase", options=_choices(("prefill", "decode")), value=state.phase, inline=True),
                    _error("phase"),
                ]
            ),
            html.Div(
                [
                    _field("Batch", _number("batch", state.batch), "batch"),
                    _field("Context [tokens]", _number("context", state.context), "context"),
                ],
                className="pair",
            ),
            html.Fieldset(
                [
                    html.Legend("Methods"),
                    html.Small("Sparsity is the fraction removed. The first method is looked at closely.",
                               className="hint"),
                    *(_method(i, row) for i, row in enumerate(rows.of_methods(state.methods))),
                    _error("methods"),
                ]
            ),
            html.Fieldset(
                [
                    html.Legend("A request"),
                    html.Div(
                        [
                            _field("Prompt [tokens]", _number("prompt", state.prompt), "prompt"),
                            _field("New tokens", _number("new_tokens", state.new_tokens), "new_tokens"),
                        ],
                        className="pair",
                    ),
                ]
            ),
            html.Fieldset(
                [
                    html.Legend("Quality"),
                    dcc.Upload(
                        html.Button("Upload a quality table (CSV)", type="button"), id="upload-quality", accept=".csv",
                        max_size=LARGEST, className="upload",
                    ),
                    html.Small("Columns method, family, sparsity, gap_percent. Without one: arXiv 2606.09080.",
                               className="hint"),
                    html.Div(id="uploaded-quality", className="uploaded"),
                    html.Button("Forget the table", id="forget-quality", type="button", hidden=True),
                    _error("quality"),
                ]
            ),
        ],
        className="controls", **{"aria-labelledby": "question-title"},
    )  # fmt: skip


def _method(i: int, row: rows.Row) -> Any:
    name = dcc.Dropdown(
        id=f"method-{i}", options=_choices(EVERY), value=row.name or None, placeholder="add a method", clearable=i > 0
    )
    join = dcc.RadioItems(
        id=f"join-{i}", value=row.join, inline=True,
        options=[{"label": "beside the others", "value": rows.BESIDE}, {"label": "after the one above",
                                                                       "value": rows.AFTER}],
    )  # fmt: skip
    return html.Div(
        [
            html.Div([html.Label("Method", htmlFor=name.id), name], className="field"),
            html.Div(
                [
                    html.Div([html.Label(label, htmlFor=f"{part}-{i}"), _ratio(f"{part}-{i}", value, hint)],
                             className="field")
                    for part, label, value, hint in (("sparsity", "Sparsity", row.sparsity, ""),
                                                     ("mlp", "of the MLP", row.mlp, "the same"))
                ],
                id=f"ratios-{i}", className="pair", hidden=not row.name,
            ),
            html.Div(join, id=f"joined-{i}", hidden=not i or not row.name),
            html.Div(id=error_id(f"methods.{i}"), className="error", role="alert"),
        ],
        id=f"row-{i}", className="row", role="group", hidden=i >= MOST_METHODS, **{"aria-label": f"Method {i + 1}"},
    )  # fmt: skip


def _ratio(name: str, value: str, placeholder: str) -> Any:
    return dcc.Input(id=name, value=value, type="text", inputMode="numeric", debounce=0.2, placeholder=placeholder,
                     autoComplete="off")  # fmt: skip


def _results(state: State) -> Any:
    tabs = [{"label": label, "value": name} for name, label in VIEWS.items()]
    return html.Section(
        [
            html.H2("Answer", id="results-title"),
            html.Div("Loading …", id="status", className="status", role="status", **{"aria-live": "polite"}),
            html.Div(id="headline"),
            html.Section(
                [
                    html.H3("Figures", className="unseen"),
                    html.Div(
                        dcc.RadioItems(id="view", options=tabs, value=state.view, inline=True, className="tabs"),
                        role="group",
                        **{"aria-label": "Figure"},
                    ),
                    _error("view"),
                    html.H3(id="figure-title"),
                    html.Figure(
                        [
                            dcc.Graph(id="figure", config=CONFIG, responsive=True, style={"height": "460px"}),
                            html.Figcaption(html.P(id="caption", className="hint")),
                        ],
                        **{"aria-labelledby": "figure-title"},
                    ),
                    html.Div(id="left-out"),
                ],
                className="card", **{"aria-label": "Figure"},
            ),
            html.Div(
                [
                    html.Button("PNG of the figure", id="png", type="button"),
                    html.Button("CSV", id="csv", type="button"),
                    html.Button("Report (HTML)", id="report", type="button"),
                ],
                className="buttons", role="group", **{"aria-label": "Download"},
            ),
            html.Section([html.H3("Methods"), html.Div(id="methods-table")], className="card"),
            html.Section([html.H3("Notes"), html.Div(id="notes")], className="card"),
            html.Section([html.H3(id="ops-title"), html.Div(id="ops", **{"aria-live": "polite"})], className="card"),
            html.Section(
                [
                    html.H3("The same elsewhere"),
                    html.Div([html.Button("Copy as Python", id="copy-python", type="button"), html.Pre(id="python")]),
                    html.Div([html.Button("Copy as command", id="copy-command", type="button"),
                              html.Pre(id="command")]),
                ],
                className="card",
            ),
        ],
        id="results", className="results empty", tabIndex="-1", **{"aria-labelledby": "results-title"},
    )  # fmt: skip
