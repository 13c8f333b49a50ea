"""`abbie-lens app`: start the dashboard on this machine's own address."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Annotated

import typer

from app import theme
from app.settings import Settings

ENTRY = Path(__file__).parents[1] / "dashboard" / "main.py"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
MAX_UPLOAD_MB = 200
"""Of one file, which the server holds in memory; a larger bundle opens with `--bundle`."""


def command(
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port; the first free from 8501 if left out."),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="Model folder or hub id to offer and show first (repeatable)."),
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="Show this bundle, without its model."),
    ] = None,
    allow_load: Annotated[
        bool, typer.Option("--allow-load", help="Let visitors load models: folders, hub ids.")
    ] = False,
    root: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="With --allow-load: visitors may name folders below this one.  [this folder]",
        ),
    ] = None,
    headless: Annotated[
        bool, typer.Option("--headless", help="Do not open a browser window.")
    ] = False,
) -> None:
    """Open the dashboard in the browser (Ctrl-C ends it)."""
    if root is not None and not allow_load:
        raise typer.BadParameter("--root: of use with --allow-load only; give both.")
    settings = Settings(
        models=tuple(_absolute(name) for name in model or ()),
        bundle=str(bundle.resolve()) if bundle else None,
        root=str((root or Path.cwd()).resolve()) if allow_load else None,
    )
    os.environ.update(settings.to_env())
    _leave_working_folder()

    from streamlit.web import cli as streamlit_cli

    port = _free_port() if port is None else port
    print(f"abbie-lens: http://localhost:{port} (Ctrl-C ends it)", flush=True)
    streamlit_cli.main(
        ["run", str(ENTRY), *flags(port, headless)], prog_name="streamlit", standalone_mode=False
    )
    # A run or a fit that still goes on in a thread would abort the interpreter as it shuts down.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _free_port(first: int = 8501) -> int:
    """The first port from `first` on that nothing listens on."""
    for port in range(first, 65536):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("localhost", port))
            except OSError:
                continue
            return port
    raise typer.BadParameter(f"--port: none from {first} on is free.")


def flags(port: int | None, headless: bool) -> list[str]:
    """Streamlit's options: they outrank every config file, so the dashboard looks the same anywhere."""
    options: dict[str, object] = {
        "server.address": "localhost",
        # Not by the name of a site elsewhere that was made to lead to this machine.
        "server.allowedHosts": LOOPBACK,
        "server.enableCORS": True,
        "server.enableXsrfProtection": True,
        "server.enableAgentApi": False,
        "server.enableStaticServing": False,
        "server.maxUploadSize": MAX_UPLOAD_MB,
        "server.headless": headless,
        "server.showEmailPrompt": False,
        # It is Streamlit's, and comes with advice on writing apps, in the terminal and on the page.
        "logger.hideWelcomeMessage": True,
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": False,
        "client.toolbarMode": "viewer",
        **theme.options(),
    }
    if port is not None:
        options["server.port"] = port
    return [f"--{name}={text}" for name, value in options.items() for text in _texts(value)]


def _texts(value: object) -> list[str]:
    if isinstance(value, tuple):
        return [str(one) for one in value]
    return [str(value).lower() if isinstance(value, bool) else str(value)]


def _absolute(name: str) -> str:
    """A folder by its full path, since the server leaves the working folder; a hub id as it is."""
    path = Path(name).expanduser()
    return str(path.resolve()) if path.exists() else name


def _leave_working_folder() -> None:
    """Keep a user's own `app.py`, `probes.py` or `.streamlit/` here from being picked up."""
    here = Path.cwd()
    root = ENTRY.parents[2]
    if here != root:
        sys.path[:] = [entry for entry in sys.path if entry and Path(entry).resolve() != here]
    # Loaded before the server puts its script's folder in front of the search path.
    import abbie_lens  # noqa: F401
    import probes  # noqa: F401

    os.chdir(ENTRY.parent)
