"""The command `hubbub`; what it needs comes with the extra `server`."""

import sys

__all__ = ("main",)

_OF_THE_EXTRA = frozenset({"typer", "uvicorn"})


def main() -> None:
    """Run the command line.

    Raises:
        SystemExit: Always, with the exit status; 1 and a message if the extra `server` is not installed.
    """
    try:
        from .commands import commands
    except ModuleNotFoundError as error:
        if error.name not in _OF_THE_EXTRA:
            raise
        sys.exit(f"hubbub: {error.name} is not installed. Install it with the command: pip install 'hubbub[server]'")
    commands()
