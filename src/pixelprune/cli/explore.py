"""``pixelprune explore``: the explorer in the browser."""

from __future__ import annotations

from typing import Annotated

import typer

from ..errors import ConfigError, install_hint

_LOCAL = "127.0.0.1"


def explore(
    model: Annotated[
        str | None,
        typer.Option(
            help="Answers questions: a local folder, or a hub id to download.",
            show_default="the bundled reader of printed pages and screens",
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 for all of this machine's.")] = _LOCAL,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port to listen at.", show_default="the first free from 7860")
    ] = None,
    max_megabytes: Annotated[float, typer.Option(min=0.001, help="The largest file that is taken.")] = 25,
    max_memory: Annotated[
        float, typer.Option(min=1, help="MB of decoded pixels that are kept over all visitors.")
    ] = 1024,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Show the page in a browser.")] = True,
) -> None:
    """Look at your own pages in the browser: what is dropped, what it costs and what it saves.

    Nothing is sent anywhere, and nothing that is uploaded is kept after the page is closed.
    """
    try:
        from ..app.page import launch
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "gradio":
            raise
        raise ConfigError(f"the explorer needs gradio: {install_hint('app')}") from error
    try:
        page = launch(
            model,
            host=host,
            port=port,
            most_megabytes=max_megabytes,
            most_memory=max_memory,
            open_browser=browser,
            block=False,
        )
    except OSError as error:
        raise ConfigError(f"--host {host}, --port {port}: cannot listen there ({error})") from error
    typer.echo(f"The explorer is at {page.local_url} (Ctrl-C stops it)")
    if host != _LOCAL:
        typer.echo("Everybody who reaches this machine can open it.")
    page.block_thread()
