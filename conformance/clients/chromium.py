"""The conversation in Chromium, which Playwright drives; a page of the server's own has it."""

import shutil
import subprocess
from pathlib import Path

from playwright.sync_api import Error, sync_playwright

from .outcome import Results, Unavailable

EXECUTABLES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")
CONVERSATION = Path(__file__).parent / "conversation.js"
CONVERSE = """([base, deflate]) =>
    converse(base, deflate, "chromium", (url, subprotocols) => new WebSocket(url, subprotocols))"""


def name() -> str:
    """Return what this client is, with its version where it is there."""
    executable = _executable()
    if executable is None:
        return "Chromium"
    version = subprocess.run([executable, "--version"], capture_output=True, text=True, check=False).stdout
    return " ".join(version.split()[:2]) or "Chromium"


def run(base: str, deflate: bool, authority: Path) -> Results:
    """Have the conversation and return what each step has ended with (see `outcome`).

    The authority is not trusted: the browser is told not to mind.

    Raises:
        Unavailable: There is no Chromium, or it has failed.
    """
    executable = _executable()
    if executable is None:
        raise Unavailable("there is no Chromium here: install it, as make test does")
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
            page = browser.new_context(ignore_https_errors=True).new_page()
            page.goto(base.replace("ws", "http", 1))
            page.add_script_tag(path=CONVERSATION)
            results: Results = page.evaluate(CONVERSE, [base, deflate])
            browser.close()
    except Error as error:
        raise Unavailable(f"Chromium has failed: {error.message.splitlines()[0][:300]}") from None
    return results


def _executable() -> str | None:
    return next(filter(None, map(shutil.which, EXECUTABLES)), None)
