"""The commands and their options. What they are for is done in the modules beside this one."""

from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from .run import serve
from .schema import print_schema, print_types

__all__ = ("commands",)

commands = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich"
)

_ADDRESS = "Address"
_APPLICATION = "Application"
_LIMITS = "Limits"
_LOG = "Log"
_PROXY = "Behind a proxy"
_TLS = "TLS"

_Target = Annotated[str, typer.Argument(metavar="MODULE:ATTRIBUTE", help="The ASGI application, such as main:app.")]
_Factory = Annotated[
    bool, typer.Option("--factory", help="MODULE:ATTRIBUTE makes the application.", rich_help_panel=_APPLICATION)
]
_AppDir = Annotated[
    Path,
    typer.Option(help="Look for the module here.", file_okay=False, resolve_path=True, rich_help_panel=_APPLICATION),
]


def _tls_file(text: str) -> Any:
    return typer.Option(help=text, exists=True, dir_okay=False, readable=True, rich_help_panel=_TLS)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hubbub {version('hubbub')}")
        raise typer.Exit


@commands.callback()
def hubbub(
    _: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """The real-time layer of FastAPI."""


@commands.command()
def run(
    application: _Target,
    *,
    factory: _Factory = False,
    app_dir: _AppDir = Path(),
    reload: Annotated[
        bool, typer.Option("--reload", help="Start again when a file changes.", rich_help_panel=_APPLICATION)
    ] = False,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes; more than one takes a hub on Redis.", rich_help_panel=_APPLICATION)
    ] = 1,
    host: Annotated[str, typer.Option(help="Listen on this address.", rich_help_panel=_ADDRESS)] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Listen on this port; 0 is any free one.", rich_help_panel=_ADDRESS)
    ] = 8000,
    uds: Annotated[
        Path | None, typer.Option(help="Listen on this Unix socket instead.", rich_help_panel=_ADDRESS)
    ] = None,
    backlog: Annotated[
        int, typer.Option(min=1, help="Connections that may wait to be accepted.", rich_help_panel=_ADDRESS)
    ] = 4_096,
    ssl_keyfile: Annotated[Path | None, _tls_file("The private key.")] = None,
    ssl_certfile: Annotated[Path | None, _tls_file("The certificate, with its chain.")] = None,
    ssl_keyfile_password: Annotated[
        str | None, typer.Option(help="The private key's password.", rich_help_panel=_TLS)
    ] = None,
    ssl_ca_certs: Annotated[Path | None, _tls_file("Who may have signed a client's certificate.")] = None,
    ssl_cert_reqs: Annotated[
        int,
        typer.Option(
            min=0, max=2, help="A client's certificate: 0 not asked for, 1 optional, 2 required.", rich_help_panel=_TLS
        ),
    ] = 0,
    proxy_headers: Annotated[
        bool, typer.Option(help="Take the client's address from X-Forwarded-For.", rich_help_panel=_PROXY)
    ] = True,
    forwarded_allow_ips: Annotated[
        str | None,
        typer.Option(
            help="Proxies to believe, separated by commas; * is all. Without it, $FORWARDED_ALLOW_IPS or this machine",
            rich_help_panel=_PROXY,
        ),
    ] = None,
    root_path: Annotated[str, typer.Option(help="The path that the proxy takes away.", rich_help_panel=_PROXY)] = "",
    deflate: Annotated[bool, typer.Option("--deflate", help="Compress messages.", rich_help_panel=_LIMITS)] = False,
    ws_max_size: Annotated[
        int,
        typer.Option(
            min=1, help="Bytes of one message. The hub's message_bytes holds if smaller.", rich_help_panel=_LIMITS
        ),
    ] = 16 * 1024 * 1024,
    timeout_keep_alive: Annotated[
        int, typer.Option(min=0, help="Seconds between two HTTP requests.", rich_help_panel=_LIMITS)
    ] = 5,
    timeout_graceful_shutdown: Annotated[
        int,
        typer.Option(min=0, help="Seconds until endpoints are cancelled at shutdown.", rich_help_panel=_LIMITS),
    ] = 10,
    log_level: Annotated[
        Literal["critical", "error", "warning", "info", "debug", "trace"], typer.Option(rich_help_panel=_LOG)
    ] = "info",
    access_log: Annotated[bool, typer.Option(help="Log each request.", rich_help_panel=_LOG)] = True,
) -> None:
    """Serve an application with Hubbub's own classes for uvicorn."""
    serve(
        application,
        factory=factory,
        app_dir=str(app_dir),
        reload=reload,
        workers=workers,
        host=host,
        port=port,
        uds=str(uds) if uds else None,
        backlog=backlog,
        ssl_keyfile=ssl_keyfile,
        ssl_certfile=ssl_certfile,
        ssl_keyfile_password=ssl_keyfile_password,
        ssl_ca_certs=ssl_ca_certs,
        ssl_cert_reqs=ssl_cert_reqs,
        proxy_headers=proxy_headers,
        forwarded_allow_ips=forwarded_allow_ips,
        root_path=root_path,
        ws_per_message_deflate=deflate,
        ws_max_size=ws_max_size,
        timeout_keep_alive=timeout_keep_alive,
        timeout_graceful_shutdown=timeout_graceful_shutdown,
        log_level=log_level,
        access_log=access_log,
    )


@commands.command()
def schema(
    application: _Target,
    *,
    factory: _Factory = False,
    app_dir: _AppDir = Path(),
    server: Annotated[
        str | None, typer.Option(metavar="URL", help="Where it is served, such as wss://example.org/api.")
    ] = None,
) -> None:
    """Print the AsyncAPI document of an application's WebSocket endpoints.

    For example: hubbub schema main:app > asyncapi.json
    """
    print_schema(application, factory=factory, app_dir=str(app_dir), server=server)


@commands.command()
def types(
    application: _Target,
    *,
    typescript: Annotated[
        bool, typer.Option("--typescript", help="In TypeScript; there is no other language yet.")
    ] = False,
    factory: _Factory = False,
    app_dir: _AppDir = Path(),
) -> None:
    """Print the types of an application's messages and a client for its WebSocket endpoints.

    For example: hubbub types main:app --typescript > src/realtime.ts
    """
    if not typescript:
        raise typer.BadParameter("choose a language: --typescript")
    print_types(application, factory=factory, app_dir=str(app_dir))
