"""`python -m hubbub.cli`: the command `hubbub` where it is not on the path."""

from . import main

if __name__ == "__main__":  # each worker imports this module, too
    main()
