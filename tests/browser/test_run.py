"""`hubbub run` as the browser meets it: with TLS, and with compression."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import httpx
import pytest
import trustme
from playwright.sync_api import Browser, Page, expect

from tests.browser.server import ROOT, Server
from tests.browser.test_tutorial import APPLICATION, submit

LONG = "é" * 30_000
ASK = """([address, text]) => new Promise((done, fail) => {
    const socket = new WebSocket(address);
    socket.onopen = () => socket.send(text);
    socket.onmessage = (event) => { done([socket.extensions, event.data]); socket.close(); };
    socket.onclose = (event) => fail(new Error(`closed with ${event.code}`));
})"""


class RunServer(Server):
    """An application under `hubbub run`.

    Args:
        log: A file for what the server prints.
        certificate: A file with a certificate and its key, for TLS.
        options: More options of the command.
    """

    def __init__(self, log: Path, certificate: Path | None, *options: str) -> None:
        super().__init__(APPLICATION, log)
        self._options = options
        if certificate is not None:
            self._options = (*options, "--ssl-certfile", str(certificate))
            self.url = f"https://127.0.0.1:{self.port}"
            self.http.close()
            self.http = httpx.Client(base_url=self.url, trust_env=False, verify=False)

    def _spawn(self, output: IO[bytes]) -> subprocess.Popen[bytes]:
        options = ["--port", str(self.port), "--log-level", "warning", *self._options]
        command = [sys.executable, "-m", "hubbub.cli", "run", *options, self.application]
        return subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    trustme.CA().issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(path)
    return path


@pytest.fixture(params=["tls", "deflate", "tls deflate"])
def run(request: pytest.FixtureRequest, certificate: Path, tmp_path: Path) -> Iterator[RunServer]:
    kinds = request.param.split()
    options = ["--deflate"] if "deflate" in kinds else []
    server = RunServer(tmp_path / "log", certificate if "tls" in kinds else None, *options)
    server.start()
    server.http.close()  # over TLS an idle connection would keep uvicorn from ending, which waits for its farewell
    yield server
    server.stop()
    assert server.log == ""


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A page whose browser does not mind who has signed a certificate."""
    context = chromium.new_context(ignore_https_errors=True)
    yield context.new_page()
    context.close()


def test_a_page_talks_to_the_server(run: RunServer, page: Page) -> None:
    address = f"{run.url.replace('http', 'ws')}/hub/1"
    page.goto(f"{run.url}/?to={address}")
    expect(page.locator("#state")).to_have_text("open")
    submit(page, "Hello")
    expect(page.locator("li")).to_have_text(["You wrote: Hello", "Client #1 says: Hello"])

    extensions, answer = page.evaluate(ASK, [address, LONG])
    assert extensions.startswith("permessage-deflate") == ("--deflate" in run._options)
    assert answer == f"You wrote: {LONG}"
