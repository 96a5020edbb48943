"""What a client sends, found by coverage: `make fuzz`, or `python -m fuzz --help`. A target a file, for atheris."""
