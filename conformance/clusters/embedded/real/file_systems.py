"""Whether a kubelet can measure the file system of a folder: what it cannot find among the mounts makes it end.

It looks as cAdvisor does (v0.56, fs/fs.go and fs/btrfs): for a mount of the same device number, and for a btrfs, whose
number the mounts tell wrongly, by its block device. The kubelet ends with "failed to get rootfs info" where both fail.
"""

from __future__ import annotations

import os
from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")


def finds_file_system(folder: Path, mounts: Path = _MOUNTS) -> bool:
    """Whether a kubelet that keeps its pods below ``folder`` finds that among ``mounts`` (proc(5), mountinfo)."""
    device = _device(folder)
    # Number, number of the parent, device, root, place, options, any number of fields, "-", type, source, options.
    lines = [line.split() for line in mounts.read_text(encoding="utf-8").splitlines()]
    if any(fields[2] == device for fields in lines):
        return True
    of_btrfs = [(fields[4], after[1]) for fields in lines if (after := fields[fields.index("-") + 1 :])[0] == "btrfs"]
    return any(Path(source).is_block_device() and _device(Path(place)) == device for place, source in of_btrfs)


def _device(path: Path) -> str:
    number = path.stat().st_dev
    return f"{os.major(number)}:{os.minor(number)}"
