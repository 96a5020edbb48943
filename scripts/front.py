"""Writes the client of the chat's page anew, and compiles the page: `make front`.

With ``--check`` it writes nothing, and fails if what is there is not what it would write.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
CHAT = ROOT / "examples" / "chat"
TSC = Path(sys.prefix, "node", "node_modules", "typescript", "bin", "tsc")
NODE = Path(sys.executable).with_name("node")


def client() -> str:
    """Return what `hubbub types` writes for the chat."""
    command = [sys.executable, "-m", "hubbub.cli", "types", "examples.chat.app:app", "--typescript"]
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout


def compiled() -> dict[Path, str]:
    """Return the files that the browser loads."""
    with tempfile.TemporaryDirectory() as output:
        done = subprocess.run([NODE, TSC, "--project", CHAT / "front", "--outDir", output])
        if done.returncode:
            sys.exit("the page does not fit the application's messages: mend examples/chat/front/chat.ts")
        made = Path(output, "chat", "front")
        return {CHAT / "static" / file.name: file.read_text("utf-8") for file in made.glob("*.js")}


def put(file: Path, text: str, *, is_check: bool) -> None:
    """Write a file, or fail if it is not what it should be."""
    if not is_check:
        file.write_text(text, "utf-8")
    elif not file.exists() or file.read_text("utf-8") != text:
        sys.exit(f"{file.relative_to(ROOT)} is not what it would be today: make front")


def main() -> None:
    is_check = "--check" in sys.argv
    put(CHAT / "front" / "api.ts", client(), is_check=is_check)
    for file, text in compiled().items():
        put(file, text, is_check=is_check)


if __name__ == "__main__":
    main()
