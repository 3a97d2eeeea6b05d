"""How long tests wait for what must come."""

PATIENCE = 90.0
"""Seconds. What is expected comes in one or two, on a busy machine in twenty; only a test that fails waits longer."""
