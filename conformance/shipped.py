"""Where the suites, fixtures and schemas are: beside the package in a checkout, inside it in a wheel."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def shipped(name: str) -> Path:
    """The folder or file ``name`` (``suites``, ``fixtures/reference``, ...) that travels with the package.

    Raises FileNotFoundError when the installation lacks it, which means a broken wheel.
    """
    for home in (_PACKAGE / "_shipped", _PACKAGE.parent):
        path = home / name
        if path.exists():
            return path
    raise FileNotFoundError(
        f"{name} is neither in {_PACKAGE / '_shipped'} nor in {_PACKAGE.parent}: reinstall gpu-conformance"
    )
