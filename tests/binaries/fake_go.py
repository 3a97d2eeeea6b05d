"""Stands in for ``go``: says its version, lists packages, "builds" scripts that say the version of their stamp."""

import os
import re
import sys
import time
from pathlib import Path

NAMES = {"go.etcd.io/etcd/server/v3": "etcd"}


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def build(arguments: list[str]) -> None:
    output = arguments[arguments.index("-o") + 1]
    packages = [one for one in arguments if one.startswith(("k8s.io/", "sigs.k8s.io/", "go.etcd.io/"))]
    stamp = re.search(r"(?:gitVersion|consts\.Version)=v(\S+)", arguments[arguments.index("-ldflags") + 1])
    for package in packages:
        say(package)
        name = NAMES.get(package, package.rsplit("/", 1)[1])
        target = Path(output) / name if output.endswith("/") else Path(output)
        if "FAKE_GO_HANGS" in os.environ:  # half a binary, then silence: someone will pull the plug
            target.write_text("#!/bin/sh\nec")
            Path(os.environ["FAKE_GO_HANGS"]).write_text(str(os.getpid()))
            time.sleep(60)
        time.sleep(float(os.environ.get("FAKE_GO_TAKES", "0")))
        target.write_text(f"#!/bin/sh\necho 'Kubernetes v{stamp[1] if stamp else '3.6.10'}'\n")


def main(arguments: list[str]) -> int:
    with open(os.environ["FAKE_GO_CALLS"], "a") as calls:
        calls.write(" ".join([*arguments, "in", os.getcwd()]) + "\n")
    if arguments[0] == "version":
        print(f"go version go{os.environ.get('FAKE_GO_VERSION', '1.26.8')} linux/amd64")
    elif arguments[0] == "env":
        print(os.environ.get("FAKE_GO_CACHE", "/nonexistent/go-build"))
    elif arguments[0] == "list":
        say("go: downloading k8s.io/api v0.36.3")
        print("k8s.io/api/core/v1\nfmt")
    elif "FAKE_GO_FAILS" in os.environ:
        say("# k8s.io/kubernetes/pkg/kubelet")
        say(os.environ["FAKE_GO_FAILS"])
        return 1
    else:
        build(arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
