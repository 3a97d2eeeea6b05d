"""Stands in for runc where root lacks capabilities: takes from a container's settings what root cannot hand on.

The daemon's settings put an interpreter's line above this and runc's place where it says RUNC.
"""

import json
import os
import sys

# linux/capability.h, by number
_NAMES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
    "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
    "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
    "CHECKPOINT_RESTORE",
)  # fmt: skip


def held() -> set[str]:
    """The names of the capabilities that may be handed on here."""
    with open("/proc/self/status", encoding="ascii") as status:
        line = next(line for line in status if line.startswith("CapBnd:"))
    bounding = int(line.split()[1], 16)
    return {f"CAP_{name}" for number, name in enumerate(_NAMES) if bounding >> number & 1}


def trim(process: dict) -> None:
    """Take from a process what root cannot give it."""
    may = held()
    for kind, names in (process.get("capabilities") or {}).items():
        process["capabilities"][kind] = [name for name in names or () if name in may]
    # Below zero takes SYS_RESOURCE.
    if (process.get("oomScoreAdj") or 0) < 0 and "CAP_SYS_RESOURCE" not in may:
        del process["oomScoreAdj"]


def argument(*names: str) -> str | None:
    """The value of an option of runc's command line."""
    for place, word in enumerate(sys.argv):
        if word in names:
            return sys.argv[place + 1]
        if word.partition("=")[0] in names and "=" in word:
            return word.partition("=")[2]
    return None


def rewrite(path: str, command: str) -> None:
    """Trim the settings in a file: a bundle's, whose process is a member, or a process alone."""
    with open(path, encoding="utf-8") as file:
        settings = json.load(file)
    trim(settings if command == "exec" else settings["process"])
    with open(path, "w", encoding="utf-8") as file:
        json.dump(settings, file)


command = next((word for word in sys.argv[1:] if word in ("create", "run", "exec")), "")
if command in ("create", "run") and (bundle := argument("--bundle", "-b")):
    rewrite(os.path.join(bundle, "config.json"), command)
elif command == "exec" and (process_file := argument("--process", "-p")):
    rewrite(process_file, command)
os.execv("RUNC", ["runc", *sys.argv[1:]])
