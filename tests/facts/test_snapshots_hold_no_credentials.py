"""No environment value and no credential reaches a snapshot, wherever a kind keeps templates or copies of itself."""

import gzip
from pathlib import Path
from typing import Any

import pytest
from paged_server import PagedServer

from conformance.facts import snapshot
from conformance.facts.hiding import HIDDEN, presentable
from conformance.facts.kinds import BESIDES, KINDS
from conformance.facts.redacting import redacted
from conformance.kube.paths import PLACES
from conformance.redaction import Redactor

SECRET = "hunter2"
Object = dict[str, Any]

CONTAINER: Object = {
    "name": "main",
    "image": "i",
    "env": [{"name": "HF_TOKEN", "value": SECRET}, {"name": "PLAIN", "value": SECRET}],
    "args": ["--token", SECRET, f"--wandb-api-key={SECRET}"],
    "livenessProbe": {"httpGet": {"path": f"/health?token={SECRET}", "port": 80}},
    "lifecycle": {"postStart": {"exec": {"command": ["sh", "-c", f"export PASSWORD={SECRET}"]}}},
}
TEMPLATE: Object = {
    "metadata": {"annotations": {"example.com/api-key": SECRET}},
    "spec": {"containers": [CONTAINER], "initContainers": [CONTAINER]},
}
# Where each kind keeps the templates of its pods, and what else of it may hold a credential.
SPECS: dict[str, Object] = {
    "Pod": TEMPLATE["spec"],
    "PyTorchJob": {"pytorchReplicaSpecs": {"Master": {"template": TEMPLATE}, "Worker": {"template": TEMPLATE}}},
    "MPIJob": {"mpiReplicaSpecs": {"Launcher": {"template": TEMPLATE}}},
    "JobSet": {"replicatedJobs": [{"name": "w", "template": {"spec": {"template": TEMPLATE}}}]},
    "LeaderWorkerSet": {"leaderWorkerTemplate": {"leaderTemplate": TEMPLATE, "workerTemplate": TEMPLATE}},
    "TrainJob": {
        "trainer": {"env": CONTAINER["env"], "args": CONTAINER["args"]},
        "podSpecOverrides": [TEMPLATE["spec"]],
    },
    "Workload": {"podSets": [{"name": "main", "count": 1, "template": TEMPLATE}]},
    "RayCluster": {
        "headGroupSpec": {"rayStartParams": {"redis-password": SECRET, "num-cpus": "0"}, "template": TEMPLATE},
        "workerGroupSpecs": [{"groupName": "w", "template": TEMPLATE}],
    },
    "RayJob": {
        "entrypoint": f"python train.py --key {SECRET}",
        "runtimeEnvYAML": f"env_vars:\n  PLAIN: {SECRET}\n  WANDB_API_KEY: {SECRET}\n",
        "rayClusterSpec": {"headGroupSpec": {"rayStartParams": {}, "template": TEMPLATE}},
    },
    "RayService": {
        "serveConfigV2": f"applications:\n- name: a\n  runtime_env: {{env_vars: {{PLAIN: {SECRET}}}}}\n",
        "rayClusterConfig": {"headGroupSpec": {"template": TEMPLATE}},
    },
    "PersistentVolume": {
        "csi": {"driver": "d", "volumeAttributes": {"password": SECRET}},
        "flexVolume": {"driver": "d", "options": {"share": f"//u:{SECRET}@host"}},
    },
    "ClusterPolicy": {"driver": {"env": CONTAINER["env"], "manager": {"env": CONTAINER["env"]}}},
}
COPY = f'{{"spec":{{"containers":[{{"name":"main","env":[{{"name":"PLAIN","value":"{SECRET}"}}]}}]}}}}'
ANNOTATIONS = {
    "kubectl.kubernetes.io/last-applied-configuration": COPY,
    "kopf.zalando.org/last-handled-configuration": COPY,
    "banzaicloud.com/last-applied": COPY,
    "objectset.rio.cattle.io/applied": SECRET,
    "example.com/template": COPY,
    "example.com/pod-template": f"containers:\n- name: main\n  env:\n  - name: PLAIN\n    value: {SECRET}\n",
    "example.com/registry-token": SECRET,
    "example.com/settings": f'{{"db_password": "{SECRET}"}}',
}


def _whole(kind: str) -> Object:
    spec = SPECS.get(kind, {"template": TEMPLATE})
    metadata = {"name": "x", "namespace": "team", "annotations": ANNOTATIONS}
    more: Object = {"parameters": {"restuserkey": SECRET, "type": "ssd"}} if kind == "StorageClass" else {}
    if kind == "Event":
        more = {"type": "Warning", "message": f"pull failed: https://u:{SECRET}@registry/v2 password={SECRET}"}
        more["involvedObject"] = {"kind": "Pod", "name": "x"}
    return {"apiVersion": PLACES[kind].group_version, "kind": kind, "metadata": metadata, "spec": spec, **more}


@pytest.mark.parametrize("kind", [*dict.fromkeys((*KINDS, *BESIDES))])
def test_no_kind_brings_an_environment_value_or_a_credential_into_the_file(kind: str, tmp_path: Path) -> None:
    taken = snapshot.take(PagedServer([_whole(kind)]), ["team"])
    snapshot.save(taken, tmp_path / "s")
    snapshot.save(redacted(taken, Redactor(b"key")), tmp_path / "t")

    assert taken.objects[kind], "the object is there"
    for file in ("s", "t"):
        assert SECRET.encode() not in gzip.decompress((tmp_path / file).read_bytes())


def test_what_explanations_go_by_stays() -> None:
    container = {"name": "main", "image": "i", "resources": {"limits": {"nvidia.com/gpu": "1"}}, "env": []}
    spec = {"secretName": "keys", "imagePullSecrets": [{"name": "ngc"}], "containers": [container]}
    kept = presentable(
        {"kind": "RayJob", "spec": {"suspend": True, "rayClusterSpec": spec, "entrypoint": "python x.py"}}
    )

    assert kept["spec"] == {"suspend": True, "rayClusterSpec": spec, "entrypoint": HIDDEN}
