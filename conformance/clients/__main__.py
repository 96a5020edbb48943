"""`python -m conformance.clients [--only websockets node chromium]`: clients against `hubbub run`, as a table."""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from types import ModuleType

import trustme

from ..server import hubbub_run, serving
from . import chromium, node, python
from .outcome import Outcome, Unavailable, table

APPLICATION = f"{__package__}.application:app"
CLIENTS = {"websockets": python, "node": node, "chromium": chromium}


def main() -> int:
    """Have all conversations that are asked for and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m conformance.clients", description="Try clients on hubbub run.")
    parser.add_argument("--only", nargs="+", choices=CLIENTS, default=list(CLIENTS), help="some clients only")
    clients = [CLIENTS[name] for name in parser.parse_args().only]
    with tempfile.TemporaryDirectory() as directory:
        try:
            outcomes = sorted(_converse(clients, Path(directory)), key=lambda outcome: outcome.client)
        except RuntimeError as error:
            print(f"conformance: {error}", file=sys.stderr)
            return 2
    print(table(outcomes))
    return int(not all(outcome.has_passed for outcome in outcomes))


def _converse(clients: Sequence[ModuleType], directory: Path) -> Iterator[Outcome]:
    """Start a server of each kind and let each client talk to it.

    Raises:
        RuntimeError: A server does not start, does not end as it should, or logs an exception.
    """
    authority, certificate = _certify(directory)
    for tls, deflate in product((False, True), repeat=2):
        log = directory / "server.log"
        command = hubbub_run(APPLICATION, certificate if tls else None, deflate)
        with serving(command, log) as port:
            base = f"{'wss' if tls else 'ws'}://127.0.0.1:{port}"
            for client in clients:
                print(f"{client.name()}, TLS {tls}, compression {deflate}", file=sys.stderr, flush=True)
                yield _outcome(client, base, tls, deflate, authority)
        if text := log.read_text(errors="replace").strip():
            raise RuntimeError(f"the server has complained:\n{text}")


def _outcome(client: ModuleType, base: str, tls: bool, deflate: bool, authority: Path) -> Outcome:
    try:
        return Outcome(client.name(), tls, deflate, client.run(base, deflate, authority))
    except Unavailable as unavailable:
        return Outcome(client.name(), tls, deflate, {}, str(unavailable))


def _certify(directory: Path) -> tuple[Path, Path]:
    """Make a certificate for this machine; return whom to trust and what the server shows."""
    issuer = trustme.CA()
    authority, certificate = directory / "authority.pem", directory / "server.pem"
    issuer.cert_pem.write_to_path(authority)
    issuer.issue_cert("127.0.0.1", "localhost").private_key_and_cert_chain_pem.write_to_path(certificate)
    return authority, certificate


sys.exit(main())
