"""The applications under test, each time as a module of its own."""

import importlib.util
from pathlib import Path
from types import ModuleType

APPLICATIONS = Path(__file__).parent / "applications"


def load(application: str) -> ModuleType:
    """Return one of the applications as a new module: nothing in it has been used before."""
    spec = importlib.util.spec_from_file_location(application, APPLICATIONS / f"{application}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
