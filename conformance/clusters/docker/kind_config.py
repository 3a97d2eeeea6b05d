"""The configuration of a kind cluster, as kind reads it (kind.x-k8s.io/v1alpha4)."""

from __future__ import annotations

import json
from typing import Any

from conformance.clusters.embedded.binaries.versions import SHARED_PINS

REPOSITORY = "localhost/gpu-conformance"
"""What takes the place of registry.k8s.io in the images of a node that we made: they are not the released ones."""
LABEL = "io.gpu-conformance.image"
ETCD_TAG = f"{SHARED_PINS['etcd']}-0"
SERVICE_RANGE = "10.96.0.0/16"
POD_RANGE = "10.244.0.0/16"


def cluster_config(name: str, image: str, workers: int, *, made_here: bool) -> dict[str, Any]:
    """One control plane and ``workers`` workers of an image; reached on the loopback address only.

    ``made_here``: the node image is kind_node_image's, whose images are named for what they are, and which has no DNS.
    """
    roles = ["control-plane", *["worker"] * workers]
    config: dict[str, Any] = {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "name": name,
        "networking": {
            "apiServerAddress": "127.0.0.1",
            "ipFamily": "ipv4",
            "podSubnet": POD_RANGE,
            "serviceSubnet": SERVICE_RANGE,
        },
        "nodes": [{"role": role, "image": image} for role in roles],
    }
    if made_here:
        # kind's own list of phases to skip has preflight alone, and ours takes its place.
        patches = [
            {
                "kind": "ClusterConfiguration",
                "imageRepository": REPOSITORY,
                "etcd": {"local": {"imageTag": ETCD_TAG}},
            },
            {"kind": "InitConfiguration", "skipPhases": ["preflight", "addon/coredns"]},
        ]
        config["kubeadmConfigPatches"] = [json.dumps(patch) for patch in patches]
    return config
