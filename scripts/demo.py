"""Serves the examples on 127.0.0.1 until Ctrl-C, and then exits with status 0: ``demo.py PORT``.

A terminal sends Ctrl-C to the whole group of processes in its foreground. make, which started this script, is in that
group, and would call the interrupt an error. So the server gets a group of its own and the terminal's foreground with
it; this script passes on the signals that reach it by another way, and hands the foreground back in the end.
"""

import os
import signal
import subprocess
import sys

ENDED_AS_ASKED = (0, -signal.SIGINT, -signal.SIGTERM)


def has_foreground() -> bool:
    """Whether standard input is a terminal whose keys reach this process."""
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError, AttributeError):  # not a terminal, closed, or none at all
        return False


def main(port: str) -> int:
    command = [sys.executable, "-m", "hubbub.cli", "run", "examples.main:app", "--host", "127.0.0.1", "--port", port]
    command += ["--timeout-graceful-shutdown", "1"]
    print(f"The examples are at http://127.0.0.1:{port} (Ctrl-C ends them)", flush=True)
    terminal = has_foreground()
    if terminal:
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # or handing over the foreground would stop this script
        signal.signal(signal.SIGTSTP, signal.SIG_IGN)  # Ctrl-Z would stop the server alone, with no shell to resume it
    server = subprocess.Popen(command, process_group=0)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _frame: server.send_signal(received))
    if terminal:
        os.tcsetpgrp(sys.stdin.fileno(), server.pid)
    status = server.wait()
    if terminal:
        os.tcsetpgrp(sys.stdin.fileno(), os.getpgrp())
    return 0 if status in ENDED_AS_ASKED else status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
