"""The options: what the command line is taken for."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from hubbub.cli import commands

DEFAULTS = {
    "factory": False,
    "app_dir": str(Path.cwd()),
    "reload": False,
    "workers": 1,
    "host": "127.0.0.1",
    "port": 8000,
    "uds": None,
    "backlog": 4_096,
    "ssl_keyfile": None,
    "ssl_certfile": None,
    "ssl_keyfile_password": None,
    "ssl_ca_certs": None,
    "ssl_cert_reqs": 0,
    "proxy_headers": True,
    "forwarded_allow_ips": None,
    "root_path": "",
    "ws_per_message_deflate": False,
    "ws_max_size": 16_777_216,
    "timeout_keep_alive": 5,
    "timeout_graceful_shutdown": 10,
    "log_level": "info",
    "access_log": True,
}


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """What would have been served."""
    calls: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(commands, "serve", lambda application, **settings: calls.append((application, settings)))
    return calls


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(commands.commands, arguments)


def test_defaults(served: list[tuple[str, dict[str, Any]]]) -> None:
    assert invoke("run", "main:app").exit_code == 0
    assert served == [("main:app", DEFAULTS)]


@pytest.mark.parametrize(
    ("arguments", "setting"),
    [
        (["--factory"], {"factory": True}),
        (["--app-dir", "/"], {"app_dir": "/"}),
        (["--reload"], {"reload": True}),
        (["--workers", "2"], {"workers": 2}),
        (["--host", "::"], {"host": "::"}),
        (["--port", "0"], {"port": 0}),
        (["--uds", "socket"], {"uds": "socket"}),
        (["--backlog", "1"], {"backlog": 1}),
        (["--ssl-keyfile", __file__], {"ssl_keyfile": Path(__file__)}),
        (["--ssl-certfile", __file__], {"ssl_certfile": Path(__file__)}),
        (["--ssl-keyfile-password", "secret"], {"ssl_keyfile_password": "secret"}),
        (["--ssl-ca-certs", __file__], {"ssl_ca_certs": Path(__file__)}),
        (["--ssl-cert-reqs", "2"], {"ssl_cert_reqs": 2}),
        (["--no-proxy-headers"], {"proxy_headers": False}),
        (["--forwarded-allow-ips", "10.0.0.1"], {"forwarded_allow_ips": "10.0.0.1"}),
        (["--root-path", "/api"], {"root_path": "/api"}),
        (["--deflate"], {"ws_per_message_deflate": True}),
        (["--ws-max-size", "65536"], {"ws_max_size": 65_536}),
        (["--timeout-keep-alive", "60"], {"timeout_keep_alive": 60}),
        (["--timeout-graceful-shutdown", "30"], {"timeout_graceful_shutdown": 30}),
        (["--log-level", "debug"], {"log_level": "debug"}),
        (["--no-access-log"], {"access_log": False}),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_options(served: list[tuple[str, dict[str, Any]]], arguments: list[str], setting: dict[str, Any]) -> None:
    assert invoke("run", "main:app", *arguments).exit_code == 0
    assert served == [("main:app", {**DEFAULTS, **setting})]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["main:app", "--port", "65536"],
        ["main:app", "--workers", "0"],
        ["main:app", "--ssl-keyfile", "there is no such file"],
        ["main:app", "--log-level", "loud"],
        ["main:app", "--turbo"],
    ],
    ids=" ".join,
)
def test_what_is_wrong_ends_with_2(served: list[tuple[str, dict[str, Any]]], arguments: list[str]) -> None:
    assert invoke("run", *arguments).exit_code == 2
    assert served == []


def test_version() -> None:
    result = invoke("--version")
    assert (result.exit_code, result.output) == (0, f"hubbub {version('hubbub')}\n")


def test_help_names_every_option() -> None:
    result = CliRunner().invoke(commands.commands, ["run", "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    for option in ("--ssl-ca-certs", "--forwarded-allow-ips", "--deflate", "--no-access-log"):
        assert option in result.output
