"""`python -m conformance [--ws hubbub.server:WebSocketProtocol] [--compression off] [--cases 1.* 2.*]`"""

import argparse
import shutil
import sys
from pathlib import Path

from . import report, wstest
from .server import ROOT, serving, uvicorn

BUILD = ROOT / "build" / "autobahn"
SECTIONS = ("1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*")
"""All of the testsuite but compression; 8 and 11 have no cases."""
COMPRESSION = ("12.*", "13.*")


def main() -> int:
    """Run the testsuite as the arguments say and return the exit status."""
    arguments = _arguments()
    compression = arguments.compression == "on"
    try:
        python2 = wstest.find_python2(arguments.python2)
        wstest.install(python2, BUILD / "python")
        count = _run(arguments, compression)
    except (wstest.Unavailable, RuntimeError) as error:
        print(f"conformance: {error}", file=sys.stderr)
        return 2
    return _judge(count, arguments.reports)


def _run(arguments: argparse.Namespace, compression: bool) -> int:
    shutil.rmtree(arguments.reports, ignore_errors=True)
    arguments.reports.mkdir(parents=True)
    cases = arguments.cases or (*SECTIONS, *(COMPRESSION if compression else ()))
    print(f"{arguments.ws}, application {arguments.application}, compression {arguments.compression}", flush=True)
    command = uvicorn(arguments.application, arguments.ws, compression)
    with serving(command, arguments.reports / "server.log") as port:
        return wstest.run(BUILD / "python", f"ws://127.0.0.1:{port}/", cases, arguments.reports)


def _judge(count: int, reports: Path) -> int:
    """Print the report and return 1 where a case has failed or was not run."""
    cases = report.read(reports)
    report.show(cases)
    failed = sum(case.has_failed for case in cases)
    print(f"{len(cases)} of {count} cases run, {failed} failed or unimplemented: {reports / 'index.html'}")
    return int(bool(failed) or len(cases) < count)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m conformance", description="Run the Autobahn testsuite.")
    parser.add_argument("--ws", default="hubbub.server:WebSocketProtocol", help="what uvicorn's --ws takes")
    parser.add_argument(
        "--application", choices=("starlette", "hubbub", "detached"), default="starlette", help="what echoes"
    )
    parser.add_argument("--compression", choices=("on", "off"), default="on", help="permessage-deflate")
    parser.add_argument("--cases", nargs="+", metavar="1.*", help="some cases only")
    parser.add_argument("--python2", metavar="PATH", help="a Python 2.7; it is looked for where none is named")
    parser.add_argument("--reports", type=Path, default=BUILD / "reports", help="directory of the reports")
    return parser.parse_args()


sys.exit(main())
