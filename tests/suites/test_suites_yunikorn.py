"""In which queue of YuniKorn pods are, and what bounds the GPUs of that queue."""

import json
from typing import Any

import pytest
import yaml

from conformance.facts import Facts
from conformance.reference import Reference
from conformance.reference.model import Team
from conformance.verdict import Judge, Unsupported
from suites.quota import test_quota

GPU = "nvidia.com/gpu"
BY_NAMESPACE = [{"name": "tag", "value": "namespace", "create": True}]
BELOW_TEAMS = [{**BY_NAMESPACE[0], "parent": {"name": "fixed", "value": "root.teams"}}]
TWO_TEAMS = Reference("cluster", teams=(Team("ml"), Team("cv")))


def queue(name: str, gpus: int | None = None, *below: dict[str, Any], **members: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"name": name, **members}
    if gpus is not None:
        made["resources"] = {"max": {GPU: gpus, "memory": "500G"}}
    return {**made, "queues": list(below)} if below else made


def configured(*queues: dict[str, Any], rules: list[Any] | None = None, **more: str) -> dict[str, Any]:
    root = [queue("root", None, *queues, submitacl="*")]
    partition = {"name": "default", "queues": root} | ({} if rules is None else {"placementrules": rules})
    text = yaml.safe_dump({"partitions": [partition]})
    metadata = {"name": "yunikorn-configs", "namespace": "yunikorn"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"queues.yaml": text, **more}}


def pod(**labels: str) -> dict[str, Any]:
    container = {"name": "main", "image": "x", "resources": {"limits": {GPU: "1"}}}
    metadata = {"name": "p", "namespace": "ml", "labels": labels}
    return {
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"schedulerName": "yunikorn", "containers": [container]},
        "status": {"phase": "Running"},
    }


def namespace(**annotations: str) -> dict[str, Any]:
    said = {f"yunikorn.apache.org/{key.replace('_', '.')}": each for key, each in annotations.items()}
    return {"kind": "Namespace", "metadata": {"name": "ml", "annotations": said}}


def judged(*objects: dict[str, Any]):
    judge = Judge()
    test_quota.test_every_namespace_with_gpu_workloads_has_a_gpu_quota(TWO_TEAMS, Facts.from_objects(objects), judge)
    (found,) = judge.findings
    return found


BOUNDED = {
    "its own, by namespace": [configured(queue("ml", 8), rules=BY_NAMESPACE), pod()],
    "named, without rules": [configured(queue("research", 8)), pod(queue="root.research")],
    "named by the newer label": [configured(queue("research", 8)), pod(yunikorn_apache_org__queue="root.research")],
    "one above": [configured(queue("all", 8, queue("ml"))), pod(queue="root.all.ml")],
    "named short": [configured(queue("research", 8)), pod(queue="research")],
    "the next rule, as it names none": [
        configured(queue("ml", 4), rules=[{"name": "provided"}, *BY_NAMESPACE]), pod(),
    ],
    "the next rule, as there is none of that name": [
        configured(queue("ml", 4), rules=[{"name": "provided"}, *BY_NAMESPACE]), pod(queue="root.nowhere"),
    ],
    "below a fixed one": [
        configured(queue("teams", 16, parent=True), rules=BELOW_TEAMS),
        pod(),
    ],
    "below the one that the namespace says": [
        configured(queue("prod", 16, parent=True),
                   rules=[{**BY_NAMESPACE[0], "parent": [{"name": "tag", "value": "namespace.parentqueue"}]}]),
        namespace(parentqueue="root.prod"), pod(),
    ],
    "a template for what is made": [
        configured(queue("teams", None, parent=True, childtemplate={"resources": {"max": {GPU: 2}}}),
                   rules=BELOW_TEAMS),
        pod(),
    ],
    "an annotation, as its queue is made": [
        configured(rules=BY_NAMESPACE), namespace(namespace_quota=json.dumps({GPU: "8"})), pod(),
    ],
}  # fmt: skip


@pytest.mark.parametrize("case", BOUNDED)
def test_pods_in_a_bounded_queue_are_covered(case: str):
    config, *others = BOUNDED[case]
    found = judged(config, *(_with_slashes(each) for each in others))

    assert found.ok, found.cause
    assert "YuniKorn" in str(found.actual)


UNBOUNDED = {
    "no maximum": ("root.ml", [configured(queue("ml"), rules=BY_NAMESPACE), pod()]),
    "no GPUs in it": ("root.ml", [
        configured({"name": "ml", "resources": {"max": {"memory": "500G", "vcore": 100}}}, rules=BY_NAMESPACE), pod(),
    ]),
    "guaranteed is no limit": ("root.ml", [
        configured({"name": "ml", "resources": {"guaranteed": {GPU: 8}}}, rules=BY_NAMESPACE), pod(),
    ]),
    "all are zero, which is ignored": ("root.ml", [
        configured({"name": "ml", "resources": {"max": {GPU: 0}}}, rules=BY_NAMESPACE), pod(),
    ]),
    "made without a template": ("root.ml", [configured(queue("cv", 8), rules=BY_NAMESPACE), pod()]),
    "an annotation, for a queue that is configured": ("root.ml", [
        configured(queue("ml"), rules=BY_NAMESPACE), namespace(namespace_quota=json.dumps({GPU: "8"})), pod(),
    ]),
    "another queue is bounded": ("root.free", [configured(queue("ml", 8), queue("free")), pod(queue="root.free")]),
}  # fmt: skip


@pytest.mark.parametrize("case", UNBOUNDED)
def test_pods_in_a_queue_without_maximum_are_not(case: str):
    name, objects = UNBOUNDED[case]

    found = judged(*objects)

    assert not found.ok
    assert f"queue {name} of YuniKorn" in found.remedy


OPEN = {
    "by user": (configured(rules=[{"name": "user", "create": True}]), "placement rule user"),
    "for some users": (configured(rules=[{**BY_NAMESPACE[0], "filter": {"users": ["sue"]}}]), "some users"),
    "access for some": (
        {**configured(), "data": {"queues.yaml": yaml.safe_dump({"partitions": [
            {"name": "default", "placementrules": BY_NAMESPACE, "queues": [queue("root", None, queue("ml", 8))]}]})}},
        "submitacl",
    ),
    "no rule": (configured(rules=[{"name": "provided"}]), "no placement rule"),
    "a queue that takes none": (configured(queue("ml", 8, queue("a")), rules=BY_NAMESPACE), "takes no pods"),
    "not YAML": ({**configured(), "data": {"queues.yaml": "partitions: ["}}, "was not read"),
}  # fmt: skip


@pytest.mark.parametrize("case", OPEN)
def test_where_the_queue_is_not_known_nothing_is_said(case: str):
    config, why = OPEN[case]

    with pytest.raises(Unsupported, match=why):
        judged(config, pod())


def test_the_policy_group_names_the_entry_and_the_owners_map_counts_over_that_of_the_chart():
    other = configured(queue("ml", 8), rules=BY_NAMESPACE)
    moved = {**other, "data": {"service.policyGroup": "gpus", "gpus.yaml": other["data"]["queues.yaml"]}}
    chart = configured(queue("ml"), rules=BY_NAMESPACE)
    chart["metadata"] = {**chart["metadata"], "name": "yunikorn-defaults"}

    assert judged(moved, chart, pod()).ok
    assert not judged(chart, pod()).ok


def _with_slashes(obj: dict[str, Any]) -> dict[str, Any]:
    labels = obj["metadata"].get("labels") or {}
    named = {key.replace("yunikorn_apache_org__", "yunikorn.apache.org/"): each for key, each in labels.items()}
    return {**obj, "metadata": {**obj["metadata"], "labels": named}}
