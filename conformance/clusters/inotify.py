"""Whether this user may have as many inotify instances as the processes of some nodes take.

Linux counts them for each user, over all processes and containers, and allows 128 by default
(fs.inotify.max_user_instances, man 7 inotify). Where they run out, a containerd starts without its CRI plugin and a
kubelet ends. kind knows it as "too many open files" (https://kind.sigs.k8s.io/docs/user/known-issues/).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REAL_NODE = 8
"""Instances that one real node takes: a kubelet 6, a containerd 1, as measured with 1.36.3."""

CONTROL_PLANE = 8
"""Instances that an embedded control plane takes: API server 3, scheduler 2, controller manager 2."""

KIND_NODE = 20
"""Instances that one node of kind takes at most: an init 3, a containerd 1, a kubelet 7, kube-proxy 1, and the
control plane's 13 where they are."""

REMEDY = "sysctl -w fs.inotify.max_user_instances=1024"
_LIMIT = Path("/proc/sys/fs/inotify/max_user_instances")


def shortage(wanted: int, make: Callable[[], int] | None = None) -> str:
    """What is wrong, where ``wanted`` instances cannot be had; empty where they can. ``make`` opens one: OSError.

    They are opened, and closed again. Whatever else keeps one from being opened is not told.
    """
    if not sys.platform.startswith("linux"):
        return ""
    with contextlib.ExitStack() as opened:
        for had in range(wanted):
            try:
                opened.callback(os.close, (make or _instance)())
            except OSError as error:
                return _told(had, wanted) if error.errno == errno.EMFILE else ""
    return ""


def lacks(wanted: int) -> Iterator[tuple[str, str]]:
    """The shortage as something that a machine lacks, and what brings it."""
    if told := shortage(wanted):
        yield told, REMEDY


def _told(had: int, wanted: int) -> str:
    with contextlib.suppress(OSError):
        limit = _LIMIT.read_text().strip()
        return (
            f"{had} inotify instances are left to you, {wanted} are needed (fs.inotify.max_user_instances is {limit})"
        )
    return f"{had} inotify instances are left to you, {wanted} are needed"


def _instance() -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    made: int = libc.inotify_init1(os.O_CLOEXEC)
    if made < 0:
        raise OSError(ctypes.get_errno(), "inotify_init1")
    return made
