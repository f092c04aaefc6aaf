"""What happens on a change: controls to state, state to answers, clicks to ops, buttons to files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dash import ClientsideFunction, Dash, Input, Output, State, ctx, dcc, html, no_update
from dash.exceptions import PreventUpdate

from pruninfersim import report
from pruninfersim.app import answers, figures, panels, rows, texts, uploads
from pruninfersim.app import state as states
from pruninfersim.app.layout import PLACES, error_id
from pruninfersim.app.state import MOST_METHODS
from pruninfersim.errors import PruninfersimError
from pruninfersim.questions.several import Speedups

#: Controls that hold a field of the state as it is.
PLAIN = ("model", "gpus", "stack", "dtype", "phase", "batch", "context", "prompt", "new_tokens", "view")
#: What a browser keeps beside the controls: packed uploads, and what was wrong with the link.
STORES = ("config", "quality", "from-link")
#: Parts of a row of the methods.
ROW = ("join", "method", "sparsity", "mlp")
#: Places where errors stand.
ERRORS = (*PLACES, *(f"methods.{i}" for i in range(MOST_METHODS)))
#: Parts of the page that a state fills.
FILLED = ("status", "headline", "figure-title", "caption", "left-out", "methods-table", "notes", "python", "command")


@dataclass(frozen=True)
class Read:
    """What the controls say: a state, if they are all right, and what is wrong, field by field."""

    state: states.State | None
    errors: dict[str, str]


def read_controls(values: Mapping[str, Any], methods: Sequence[rows.Row], from_link: Mapping[str, str]) -> Read:
    """Return the state that the controls ask for, and what is wrong with it.

    Parameters
    ----------
    values : mapping
        Of the controls in `PLAIN`, and of the uploads config and quality.
    methods : sequence of Row
    from_link : mapping
        What was wrong with the link: said once, defaults took its place.

    >>> read_controls({"batch": "none"}, [rows.Row(name="low-rank")], {}).errors
    {'batch': "'none' is not a whole number such as 2048 or 8k (without separators)"}
    """
    spelled, errors, begins = rows.to_methods(methods)
    given = {name: "" if value is None else value for name, value in values.items()}
    if given.get("config"):
        given.pop("model", None)  # what is typed there is of no effect beside a file
    state, wrong = states.read(given | ({"methods": spelled} if spelled or not errors else {}))
    errors |= wrong
    if not errors:
        for field, message in answers.problems(state).items():
            name, _, place = field.partition(".")
            errors[f"{name}.{begins[int(place)]}" if place else field] = message
    return Read(None if errors else state, dict(from_link) | errors)


def wire(app: Dash, start: states.State) -> None:
    """Add all callbacks to a page that starts with a state."""
    controls = [*PLAIN, *(f"{part}-{i}" for i in range(MOST_METHODS) for part in ROW)]
    _link(app, controls, start)
    _answers(app, controls)
    _uploads(app)
    _downloads(app)
    _in_the_browser(app)


def _link(app: Dash, controls: Sequence[str], start: states.State) -> None:
    @app.callback(
        *(Output(name, "value") for name in controls),
        *(Output(name, "data", allow_duplicate=True) for name in STORES),
        Input("address", "search"),
        prevent_initial_call="initial_duplicate",
    )  # type: ignore[untyped-decorator]
    def opened(search: str | None) -> Any:
        """Set the controls to what the link says."""
        state, errors = states.from_query(search or "") if search else (start, {})
        plain = [getattr(state, name) for name in PLAIN]
        shown = [str(v) if isinstance(v, int) else list(v) if isinstance(v, tuple) else v for v in plain]
        # A dropdown without a choice holds None.
        methods = [value or None for row in rows.of_methods(state.methods) for value in row]
        return [*shown, *methods, state.config, state.quality, errors]


def _answers(app: Dash, controls: Sequence[str]) -> None:
    @app.callback(
        Output("state", "data"),
        *(Output(error_id(name), "children") for name in ERRORS),
        *(Output(f"row-{i}", "hidden") for i in range(MOST_METHODS)),
        *(Output(f"ratios-{i}", "hidden") for i in range(MOST_METHODS)),
        *(Output(f"joined-{i}", "hidden") for i in range(MOST_METHODS)),
        *(Output(name, "children") for name in FILLED),
        Output("figure", "figure"),
        Output("results", "className"),
        *(Input(name, "value") for name in controls),
        *(Input(name, "data") for name in STORES),
        State("state", "data"),
        prevent_initial_call=True,
    )  # type: ignore[untyped-decorator]
    def changed(*told: Any) -> Any:
        """Answer what the controls ask, or say what is wrong beside them."""
        *given, before = told
        values, stores = given[: len(controls)], dict(zip(STORES, given[len(controls) :], strict=True))
        linked = stores.pop("from-link") or {}
        plain = dict(zip(PLAIN, values, strict=False)) | stores
        each = iter(values[len(PLAIN) :])
        methods = [rows.Row(*(value or "" for value in row)) for row in zip(*[each] * len(ROW), strict=True)]
        if "from-link.data" not in ctx.triggered_prop_ids:
            linked = {}
        read = read_controls(plain, methods, linked)
        chosen = [bool(row.name) for row in methods]
        beside = [
            *(read.errors.get(name, "") for name in ERRORS),
            *(i > 0 and not chosen[i] and not chosen[i - 1] for i in range(MOST_METHODS)),
            *(not each for each in chosen),
            *(not i or not chosen[i] for i in range(MOST_METHODS)),
        ]
        try:
            if read.state is not None:
                return [read.state.query, *beside, *answered(read.state), "results"]
            said = "; ".join(f"{name.partition('.')[0]}: {text}" for name, text in read.errors.items())
        except PruninfersimError as error:
            said = str(error)
        unanswered = "results empty" if before is None else "results stale"
        return [no_update, *beside, f"Not answered. {said}", *[no_update] * len(FILLED), unanswered]

    @app.callback(
        Output("ops-title", "children"),
        Output("ops", "children"),
        Input("figure", "clickData"),
        Input("state", "data"),
        prevent_initial_call=True,
    )  # type: ignore[untyped-decorator]
    def clicked(click: Mapping[str, Any] | None, query: str | None) -> Any:
        """Show the ops behind a point, or those of the first method after a change."""
        if query is None:
            raise PreventUpdate
        state, _ = states.from_query(query)
        on = click if ctx.triggered_id == "figure" else None
        point = figures.point_of(state, on)
        try:
            step = panels.step(state, figures.step_of(state, on))
            if step is not None:
                return "What each op adds", step
            return "Ops behind the point", panels.ops(state, point)
        except PruninfersimError as error:
            return "Ops", html.P(str(error), className="error")


def answered(state: states.State) -> list[Any]:
    """Return the parts of the page in the order of `FILLED`, and the figure; errors as the questions."""
    shown = figures.shown(state)
    below: list[Any] = [html.P(f"Left out: {text}", className="hint") for text in shown.left_out]
    if shown.frame is not None:
        below.append(panels.gpus(shown.frame))
    parts = {
        "status": panels.sentence(state),
        "headline": panels.headline(state),
        "figure-title": shown.title,
        "caption": shown.caption,
        "left-out": below,
        "methods-table": panels.methods(state),
        "notes": panels.notes(state),
        "python": texts.python(state),
        "command": texts.command(state),
    }
    return [*(parts[name] for name in FILLED), shown.figure]


def _uploads(app: Dash) -> None:
    for kind, what, read in (
        ("config", "the model", uploads.config_text),
        ("quality", "the quality table", lambda text, _: (uploads.table_of(text), text)[1]),
    ):
        _upload(app, kind, what, read)


def _upload(app: Dash, kind: str, what: str, read: Any) -> None:
    @app.callback(
        Output(kind, "data", allow_duplicate=True),
        Output(error_id(kind), "children", allow_duplicate=True),
        Input(f"upload-{kind}", "contents"),
        Input(f"forget-{kind}", "n_clicks"),
        State(f"upload-{kind}", "filename"),
        prevent_initial_call=True,
    )  # type: ignore[untyped-decorator]
    def uploaded(contents: str | None, _: int | None, filename: str | None) -> Any:
        """Keep an uploaded file, packed, or say what is wrong with it."""
        if ctx.triggered_id == f"forget-{kind}":
            return "", ""
        if not contents:
            raise PreventUpdate
        try:
            return uploads.packed(read(uploads.content(contents, what), filename or ""), what), ""
        except PruninfersimError as error:
            return no_update, f"{(filename or 'the file')[: uploads.NAME_LENGTH]}: {error}"

    @app.callback(Output(f"uploaded-{kind}", "children"), Output(f"forget-{kind}", "hidden"), Input(kind, "data"))  # type: ignore[untyped-decorator]
    def kept(data: str | None) -> Any:
        """Say which file is in use."""
        if not data:
            return "", True
        try:
            name = uploads.model_of(uploads.unpacked(data, what)).name if kind == "config" else "your table"
        except PruninfersimError:
            return "", False
        return f"In use: {name}", False


def _downloads(app: Dash) -> None:
    @app.callback(
        Output("download", "data"),
        Input("csv", "n_clicks"),
        Input("report", "n_clicks"),
        State("state", "data"),
        prevent_initial_call=True,
    )  # type: ignore[untyped-decorator]
    def download(_: int | None, __: int | None, query: str | None) -> Any:
        """Return the numbers of all methods and GPUs, or the report on the first GPU."""
        if query is None:
            raise PreventUpdate
        state = states.from_query(query)[0]
        text, name = csv_of(state) if ctx.triggered_id == "csv" else report_of(state)
        return dcc.send_string(text, name)


def csv_of(state: states.State) -> tuple[str, str]:
    """Return the speedups of all methods on all GPUs as CSV, and the name of the file."""
    results, asked = [], []
    for gpu in state.gpus:
        for method in state.methods:
            try:
                results.append(answers.speedup(state, answers.Point(gpu, method, state.batch, state.context)))
                asked.append(method)
            except PruninfersimError:
                continue  # the page says why
    frame = Speedups(tuple(results)).to_frame()
    frame.insert(0, "asked", asked)
    return frame.to_csv(index=False, lineterminator="\n"), "speedups.csv"


def report_of(state: states.State) -> tuple[str, str]:
    """Return the report on the first GPU, and the name of the file."""
    from pruninfersim.pruning import spelling

    page = report.html_report(
        model=answers.model(state), hardware=state.gpus[0], methods=[spelling.read(m) for m in state.methods],
        workloads=answers.work_of(state), stack=state.stack, dtype=state.dtype or None,
    )  # fmt: skip
    return page, "report.html"


def _in_the_browser(app: Dash) -> None:
    """What needs no server: the address bar, the clipboard, the colours, the picture of a figure."""
    here = "explorer"
    app.clientside_callback(
        ClientsideFunction(here, "address"), Output("address", "hash"), Input("state", "data"),
        prevent_initial_call=True,
    )  # fmt: skip
    for button, function in (("copy-link", "copyLink"), ("theme", "theme"), ("png", "png"),
                             ("copy-python", "copyPython"), ("copy-command", "copyCommand")):  # fmt: skip
        app.clientside_callback(
            ClientsideFunction(here, function), Output(button, "children"), Input(button, "n_clicks"),
            State(button, "children"), prevent_initial_call=True,
        )  # fmt: skip
