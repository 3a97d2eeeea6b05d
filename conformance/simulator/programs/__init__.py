"""What known programs print in a container of a simulated node, and with which exit code they end.

A container is known by its command; what it prints follows from the devices that it can see and from what is broken
about the machine, never from what a suite would like to read.
"""

from conformance.simulator.programs.running import Ended, run

__all__ = ["Ended", "run"]
