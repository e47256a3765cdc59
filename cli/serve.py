"""`matrix-sync serve`: the HTTP API."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click

from api.server import serve as serve_api
from schema.logs import configure
from schema.settings import Settings


@click.command()
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), help="Settings as TOML; the environment overlays them.")
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on; 0 is a free one.")
@click.option("--workers", type=click.IntRange(0, 256), help="Processes; 0 is one per core but one.")
def serve(config: Path | None, host: str | None, port: int | None, workers: int | None) -> None:
    """Serve the HTTP API until SIGTERM or Ctrl-C, then finish what runs."""
    given: dict[str, Any] = {"http_host": host, "http_port": port, "http_workers": workers}
    settings = dataclasses.replace(Settings.load(config), **{name: value for name, value in given.items() if value is not None})
    configure(settings.log_level)
    serve_api(settings, is_ready=lambda url: click.echo(f"listening on {url}"))
