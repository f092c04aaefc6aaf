"""The command that serves the explorer page: ``explore``."""

from __future__ import annotations

from typing import Annotated

import typer

from pruninfersim.cli.program import app
from pruninfersim.errors import InvalidInputError


@app.command()
def explore(
    host: Annotated[str, typer.Option(help="Address to serve on; other computers cannot reach the default.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to serve on.")] = 8050,
) -> None:
    """Serve a page that answers as you ask: models, GPUs, methods.

    Needs the extra app: pip install 'pruninfersim[app]'.
    """
    from pruninfersim.app import program

    try:
        server = program.server(host, port)
    except (OSError, UnicodeError) as error:
        why = str(getattr(error, "strerror", None) or error).partition(" (while")[0]
        raise InvalidInputError(f"cannot serve on {host}:{port}: {why}; try another --host or --port") from None
    if program.outward(host):
        typer.echo(
            f"warning: {host} lets other computers use this page, which has neither a password nor encryption", err=True
        )
    shown = f"[{host}]" if ":" in host else host
    typer.echo(f"Explorer at http://{shown}:{server.port}/ (Ctrl-C ends it)")
    server.serve_forever()
