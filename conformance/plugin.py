"""pytest hooks and options. Without ``--cluster`` nothing below is imported and nothing is registered."""

import pytest

from conformance import options


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options, so that ``--help`` has them and a misspelt one is refused."""
    options.add_to(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and the whole run when a cluster is named."""
    config.addinivalue_line(
        "markers", "requirement(id): this function is the test of one requirement; set by @requirement, never by hand"
    )
    settings = options.resolve(config)
    if not settings.value("cluster"):
        return
    from conformance.session.garbage import kept_from_the_collector

    with kept_from_the_collector():
        from conformance.session.hooks import ConformanceHooks

    config.pluginmanager.register(ConformanceHooks(config, settings), "gpu-conformance-run")
