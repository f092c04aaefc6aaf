"""The page as a program, and as an object for a notebook."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pruninfersim._util.words import refuse
from pruninfersim.app import uploads
from pruninfersim.app.state import State, read
from pruninfersim.errors import InvalidInputError, MissingValueError
from pruninfersim.models.hf.reading import read_json

if TYPE_CHECKING:
    from dash import Dash

#: What a browser may do on the page: load from the program that serves it, and nothing from anywhere else.
POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; object-src 'none'; "
    "base-uri 'none'; form-action 'none'; script-src 'self' "
)
#: Largest request: an upload in base64, and the rest of the controls [B].
LARGEST_REQUEST = 2 * uploads.LARGEST
NEEDED = "the explorer needs dash; install it with: pip install 'pruninfersim[app]'"


def explore(
    *,
    model: str | Path | dict[str, Any] | None = None,
    hardware: str | Sequence[str] | None = None,
    methods: str | Iterable[str] | None = None,
    stack: str | None = None,
    dtype: str | None = None,
    phase: str | None = None,
    batch: int | None = None,
    context: int | None = None,
    prompt: int | None = None,
    new_tokens: int | None = None,
    view: str | None = None,
    **other: Any,
) -> Dash:
    """Return the explorer page, which begins with a question: ``explore(...).run()`` shows it inline in a notebook.

    Parameters
    ----------
    model : str, Path or dict, optional
        Name of a model; or a ``config.json``, or its content.
    hardware : str, or several, optional
        Names of GPUs; the first is looked at closely.
    methods : str, or several, optional
        Methods with their ratios: ``"static-width@0.5"``, ``"static-width@0.25/0.5"`` (attention/MLP),
        ``"static-depth@0.25+semi-structured@0.5"`` (one after the other).
    stack, dtype, phase, batch, context : optional
        As in `pruninfersim.speedup`.
    prompt, new_tokens : int, optional
        Tokens of a request.
    view : {"waterfall", "sparsity", "roofline", "map", "gpus", "pareto"}, optional
        Figure that is shown first.

    Returns
    -------
    dash.Dash
        Not running yet. In a notebook ``.run(jupyter_height=1000)`` shows it below the cell; in a script ``.run()``
        serves it on this computer.

    Raises
    ------
    MissingValueError
        If dash is not installed.
    InvalidInputError
        If a part of the question is wrong.

    >>> explore(hardware="h100-smx")
    Traceback (most recent call last):
    pruninfersim.errors.InvalidInputError: explore: hardware: unknown GPU 'h100-smx'. Did you mean 'h100-sxm'? ...
    """
    names = {"model": model, "hardware": hardware, "methods": methods, "stack": stack, "dtype": dtype, "phase": phase,
             "batch": batch, "context": context, "prompt": prompt, "new_tokens": new_tokens, "view": view}  # fmt: skip
    refuse("explore", other, list(names))
    given: dict[str, Any] = {name: value for name, value in names.items() if value is not None}
    if "hardware" in given:
        given["gpus"] = given.pop("hardware")
    if isinstance(model, Path | dict) or str(model).endswith(".json"):
        del given["model"]
        given["config"] = _packed(model)
    for name in ("gpus", "methods"):
        if name in given and not isinstance(given[name], str):
            given[name] = list(given[name])
    state, errors = read(given)
    if errors:
        name, text = next(iter(errors.items()))
        raise InvalidInputError(f"explore: {'hardware' if name == 'gpus' else name}: {text}")
    return page(state)


def _packed(model: Any) -> str:
    import json

    keys = model if isinstance(model, dict) else read_json(Path(model))
    file = "" if isinstance(model, dict) else Path(model).name
    return uploads.packed(uploads.config_text(json.dumps(keys), file), "the model")


def page(state: State) -> Dash:
    """Return the page that begins with a state; errors as `explore`."""
    try:
        from dash import Dash
    except ModuleNotFoundError as error:
        if error.name != "dash":
            raise
        raise MissingValueError(NEEDED) from None
    from pruninfersim.app.callbacks import wire
    from pruninfersim.app.layout import page as layout

    app = Dash(
        "pruninfersim.app", title="Pruning explorer", update_title="", serve_locally=True,
        assets_folder=str(Path(__file__).with_name("assets")), enable_mcp=False, add_log_handler=False,
        meta_tags=[{"name": "viewport", "content": "width=device-width, initial-scale=1"}],
    )  # fmt: skip
    app.index_string = app.index_string.replace("<html>", '<html lang="en">')
    app.layout = lambda: layout(state)
    wire(app, state)
    app.server.config["MAX_CONTENT_LENGTH"] = LARGEST_REQUEST
    policy = POLICY + " ".join(app.csp_hashes())

    def guarded(response: Any) -> Any:
        response.headers["Content-Security-Policy"] = policy
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    app.server.after_request(guarded)
    return app


def outward(host: str) -> bool:
    """Return whether a host makes the page reachable from other computers.

    >>> outward("127.0.0.1"), outward("localhost"), outward("0.0.0.0")
    (False, False, True)
    """
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"


def server(host: str = "127.0.0.1", port: int = 8050, state: State | None = None) -> Any:
    """Return a server of the page; ``serve_forever()`` runs it.

    Raises
    ------
    MissingValueError
        If dash is not installed.
    OSError
        If the port is taken.
    """
    app = page(state or State())
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):  # type: ignore[misc]
        def log_request(self, *_: Any) -> None:
            """Say nothing of what went well."""

    # Bound here, since werkzeug ends the program where a port is taken.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family) as bound:
        port = bound.getsockname()[1]
        return make_server(host, port, app.server, threaded=True, request_handler=Quiet, fd=bound.fileno())
