"""Every rule speaks where it should, names file and line, and is silent on set-ups that are right."""

from pathlib import Path

import pytest
import yaml

from conformance.advice import RULES, advise
from conformance.reference.loading import load_placed
from conformance.shipped import shipped

TAINT = {"key": "nvidia.com/gpu", "effect": "NoSchedule"}
T4 = {"model": "t4", "product": "Tesla-T4", "count": 4, "memory_mib": 15360}
SHARED = {**T4, "resource": "nvidia.com/gpu.shared", "replicas": 4, "shared_by": "mps"}
A100 = {"model": "a100", "product": "NVIDIA-A100-SXM4-40GB", "count": 8, "memory_mib": 40960}
SLICED = {"version": "v1", "sharing": {"timeSlicing": {"resources": [{"name": "nvidia.com/gpu", "replicas": 4}]}}}
MPS = {
    "version": "v1",
    "sharing": {"mps": {"renameByDefault": True, "resources": [{"name": "nvidia.com/gpu", "replicas": 4}]}},
}
RIGHT_TEAM = {"namespace": "vision", "quotas": [{"name": "gpus", "hard": {"requests.nvidia.com/gpu": "4"}}]}


def pool(name="t4", **members):
    return {"name": name, "selector": {"pool": name}, "nodes": 2, "taints": [TAINT], "gpu": T4, **members}


def set_up(**members):
    """A set-up about which nothing is to be said, with some parts replaced."""
    right = {
        "name": "shop",
        "stack": {"kind": "gpu-operator", "driver": "580.95.05"},
        "pools": [pool(), pool("cpu", taints=[], gpu=None)],
        "teams": [RIGHT_TEAM],
        "priority_classes": [
            {"name": "high", "value": 10, "preemption_policy": "PreemptLowerPriority", "preempts": ["low"]},
            {"name": "low", "value": 1, "preemption_policy": "Never", "global_default": True},
        ],
    }
    return {key: value for key, value in {**right, **members}.items() if value is not None}


def configured(configs, pools, default="only", **stack):
    plugin_configs = {"config_map": "sharing", "configs": configs, **({"default": default} if default else {})}
    names = {each["gpu"].get("resource", "nvidia.com/gpu") for each in pools if each["gpu"]}
    quotas = [{"name": "gpus", "hard": {f"requests.{name}": "4" for name in names}}]
    return set_up(
        stack={"kind": "gpu-operator", "driver": "580.95.05", "plugin_configs": plugin_configs, **stack},
        pools=pools,
        teams=[{**RIGHT_TEAM, "quotas": quotas}],
    )


def laid_out(entries):
    layouts = {"config_map": "layouts", "layouts": {"ours": entries}}
    return set_up(stack={"kind": "gpu-operator", "driver": "580.95.05", "mig_layouts": layouts})


def team(**members):
    return set_up(teams=[{**RIGHT_TEAM, **members}])


def account(**members):
    return team(service_accounts=[{"name": "server", **members}])


def quota(hard, **members):
    return team(quotas=[{"name": "gpus", "hard": hard, **members}])


def rule_of(*rules):
    return team(roles=[{"name": "r", "rules": list(rules)}])


def classes(*members):
    return set_up(priority_classes=list(members))


CPU = pool("cpu", taints=[], gpu=None)
WORKLOAD = {"role": "inference", "kind": "Deployment", "namespace": "vision", "name": "d"}
HIGH = {"name": "high", "value": 10, "preemption_policy": "PreemptLowerPriority"}
LOW = {"name": "low", "value": 1, "preemption_policy": "Never"}

# What is wrong, the one rule that says so, a word of what it says, and the line of the file at which it points.
CASES = {
    "no driver": (set_up(stack={"kind": "gpu-operator"}), "driver-not-declared", "left behind"),
    "no stack": (set_up(stack=None), "stack-not-declared", "no stack"),
    "overlapping selectors": (
        set_up(
            pools=[
                pool("a", selector={"pool": "gpu"}),
                pool("b", selector={"rack": "1"}),
                {**CPU, "selector": {"pool": "cpu", "rack": "2"}},
            ]
        ),
        "selectors-overlap",
        "both pool a and pool b",
    ),
    "selector of a program": (
        set_up(
            pools=[
                pool(selector={"nvidia.com/gpu.product": "Tesla-T4"}),
                {**CPU, "selector": {"nvidia.com/gpu.product": "none"}},
            ]
        ),
        "selector-of-a-program",
        "written by a program",
    ),
    "pool without taints": (set_up(pools=[pool(taints=[]), CPU]), "pool-without-taints", "declares no taint"),
    "soft taints only": (
        set_up(pools=[pool(taints=[{"key": "gpu", "effect": "PreferNoSchedule"}]), CPU]),
        "pool-without-taints",
        "keeps no pod away",
    ),
    "no pool for ordinary pods": (set_up(pools=[pool()]), "no-pool-for-ordinary-pods", "CoreDNS"),
    "no number of nodes": (
        set_up(pools=[{key: value for key, value in pool().items() if key != "nodes"}, CPU]),
        "nodes-not-declared",
        "write 0",
    ),
    "no product": (set_up(pools=[pool(gpu={"model": "t4", "count": 4}), CPU]), "product-not-declared", "no product"),
    "replicas called like GPUs": (
        configured({"only": SLICED}, [pool(gpu={**T4, "replicas": 4, "shared_by": "time-slicing"}), CPU]),
        "shared-under-the-usual-name",
        "renameByDefault",
    ),
    "replicas that no configuration gives": (
        configured({"only": {"version": "v1"}}, [pool(gpu=SHARED), CPU]),
        "sharing-is-configured-otherwise",
        "declares 4 replicas by mps",
    ),
    "a configuration that shares what others share": (
        configured({"only": SLICED}, [pool(gpu={**T4, "replicas": 4, "shared_by": "other"}), CPU]),
        "sharing-is-configured-otherwise",
        "declare time-slicing, so that it is judged",
    ),
    "a configuration that is not declared": (
        configured({"only": {"version": "v1"}}, [pool(labels={"nvidia.com/device-plugin.config": "onyl"}), CPU]),
        "sharing-is-configured-otherwise",
        "asks for configuration onyl",
    ),
    "a layout that nobody knows": (
        set_up(pools=[pool(gpu=A100, labels={"nvidia.com/mig.config": "ours"}), CPU]),
        "mig-layout-is-not-known",
        "ours",
    ),
    "a configuration that is refused": (
        configured(
            {"only": {"version": "v1", "sharing": {"timeSlicing": {"resources": [{"name": "nvidia.com/gpu"}]}}}},
            [pool(), CPU],
        ),
        "configuration-is-refused",
        "replicas",
    ),
    "a layout that is refused": (
        laid_out([{"devices": "all", "mig-enabled": "yes"}]),
        "layout-is-refused",
        "mig-enabled",
    ),
    "MPS under mixed": (
        configured({"only": MPS}, [pool(gpu=SHARED), CPU], mig_strategy="mixed"),
        "mps-with-mixed",
        "does not start",
    ),
    "no configuration reaches a node": (
        configured({"only": {"version": "v1"}}, [pool(), CPU], default=""),
        "no-default-configuration",
        "no node gets",
    ),
    "team without quota": (team(quotas=[]), "team-without-quota", "every GPU"),
    "a limits. key": (
        quota({"requests.nvidia.com/gpu": "4", "limits.nvidia.com/gpu": "4"}),
        "quota-key-counts-nothing",
        "say requests.nvidia.com/gpu",
    ),
    "a bare key": (
        quota({"requests.nvidia.com/gpu": "4", "nvidia.com/gpu": "4"}),
        "quota-key-counts-nothing",
        "counts nothing",
    ),
    "a name that no pool offers": (
        quota({"requests.nvidia.com/gpu": "4", "requests.nvidia.com/mig-1g.5gb": "2"}),
        "quota-of-nothing-offered",
        "mig-1g.5gb",
    ),
    "a name left open": (
        set_up(pools=[pool(), pool("mi300", gpu={"model": "mi300", "count": 8, "resource": "amd.com/gpu"}), CPU]),
        "quota-leaves-a-name-open",
        "leave amd.com/gpu without limit",
    ),
    "quota of one class": (
        quota({"requests.nvidia.com/gpu": "4"}, priority_classes=["high"]),
        "quota-of-some-classes-only",
        "high only",
    ),
    "limit range with GPUs": (
        team(limit_ranges=[{"name": "l", "items": [{"type": "Container", "max": {"nvidia.com/gpu": "1"}}]}]),
        "limit-range-gives-gpus",
        "every container",
    ),
    "token in every pod": (account(), "token-in-every-pod", "automount_token: false"),
    "token by annotation": (
        account(annotations={"automountServiceAccountToken": "false"}),
        "token-in-every-pod",
        "nothing reads the annotation",
    ),
    "role with all verbs": (rule_of({"resources": ["pods"], "verbs": ["*"]}), "role-gives-too-much", "every verb"),
    "role with all secrets": (
        rule_of({"resources": ["secrets"], "verbs": ["get"]}),
        "role-gives-too-much",
        "all secrets",
    ),
    "role that gives itself more": (
        rule_of({"resources": ["roles"], "verbs": ["bind"]}),
        "role-gives-too-much",
        "further rights",
    ),
    "no preemption_policy": (
        classes({"name": "high", "value": 10}, LOW),
        "policy-left-to-the-default",
        "evicts pods of low",
    ),
    "a default that evicts": (classes({**HIGH, "global_default": True}, LOW), "default-class-evicts", "names no class"),
    "Never that shall preempt": (
        classes({"name": "high", "value": 10, "preemption_policy": "Never", "preempts": ["low"]}, LOW),
        "cannot-preempt",
        "it waits",
    ),
    "lower that shall preempt": (
        classes(HIGH, {"name": "low", "value": 1, "preemption_policy": "PreemptLowerPriority", "preempts": ["high"]}),
        "cannot-preempt",
        "is not lower",
    ),
    "equal values": (classes(HIGH, {**HIGH, "name": "other"}), "equal-values", "neither evicts the other"),
    "Never shields nobody": (
        classes({**HIGH, "preempts": ["low"]}, {"name": "inference", "value": 5, "preemption_policy": "Never"}, LOW),
        "never-shields-nobody",
        "shields nobody",
    ),
    "workload without pools": (
        set_up(workloads=[{**WORKLOAD, "priority_class": "high"}]),
        "workload-without-pools",
        "is not judged",
    ),
    "workload without class": (
        set_up(workloads=[{**WORKLOAD, "pools": ["t4"]}]),
        "workload-without-class",
        "the default low",
    ),
    "workload as default": (
        set_up(
            workloads=[{**WORKLOAD, "pools": ["t4"], "priority_class": "high"}],
            teams=[{**RIGHT_TEAM, "service_accounts": [{"name": "server", "automount_token": False}]}],
        ),
        "workload-as-default-account",
        "runs as server",
    ),
}


def given(folder: Path, value):
    file = folder / "setup.yaml"
    file.write_text(yaml.safe_dump(value, sort_keys=False))
    return advise(load_placed(file))


def test_nothing_is_said_of_a_set_up_that_is_right(tmp_path):
    assert given(tmp_path, set_up()) == ()


@pytest.mark.parametrize(("value", "rule", "says"), CASES.values(), ids=CASES)
def test_what_is_unwise_is_said_by_one_rule(tmp_path, value, rule, says):
    found = given(tmp_path, value)

    assert {each.rule.id for each in found} == {rule}, found
    assert any(says in each.remark.text for each in found), found


def test_every_rule_is_tried():
    assert {rule for _, rule, _ in CASES.values()} == {rule.id for rule in RULES}


def test_rules_have_ids_of_their_own_and_say_their_source():
    assert len({rule.id for rule in RULES}) == len(RULES)
    assert all(rule.source and rule.look.__doc__ for rule in RULES)


def test_an_advice_names_file_and_line(tmp_path):
    (tmp_path / "a.yaml").write_text("name: shop\n")
    (tmp_path / "b.yaml").write_text("# remark\npools:\n  - name: cpu\n    selector: {pool: cpu}\n")

    (advice,) = advise(load_placed(tmp_path))

    assert (advice.position.file.name, advice.position.line) == ("b.yaml", 3)


def test_a_key_that_hami_holds_is_no_mistake_where_something_else_shares(tmp_path):
    parted = pool(gpu={"model": "l4", "count": 1, "replicas": 4, "shared_by": "other"})
    held = {"namespace": "vision", "quotas": [{"name": "gpus", "hard": {"limits.nvidia.com/gpu": "4"}}]}

    found = {each.rule.id for each in given(tmp_path, set_up(pools=[parted, CPU], teams=[held]))}

    assert "quota-key-counts-nothing" not in found


def test_nothing_is_said_of_the_shipped_set_up():
    assert advise(load_placed(shipped("fixtures/reference"))) == ()


@pytest.mark.parametrize(
    "stack",
    [None, {"kind": "device-plugin", "namespace": "gpus", "gpu_feature_discovery": False}],
    ids=["platform", "plugin"],
)
def test_nobody_is_told_to_declare_what_nothing_on_the_nodes_tells(tmp_path, stack):
    """GKE's and AKS' nodes have no label of GPU Feature Discovery: a declared product or driver is never compared."""
    bare = pool(gpu={"model": "l4", "count": 1})

    ids = {each.rule.id for each in given(tmp_path, set_up(stack=stack, pools=[bare, CPU]))}

    assert ids & {"product-not-declared", "driver-not-declared"} == set()


def test_nobody_is_told_to_configure_a_plugin_that_is_the_platforms(tmp_path):
    shared = pool(gpu={"model": "l4", "count": 1, "replicas": 4, "shared_by": "time-slicing"})

    found = {each.rule.id: each.remark.text for each in given(tmp_path, set_up(stack=None, pools=[shared, CPU]))}

    assert "renameByDefault" not in found["shared-under-the-usual-name"]
    assert "nodeSelector" in found["shared-under-the-usual-name"]


@pytest.mark.parametrize("folder", sorted(shipped("fixtures/setups").iterdir()), ids=lambda folder: folder.name)
def test_no_correct_set_up_is_told_that_it_cannot_work(folder):
    """What may be said of them is that somebody else would have chosen otherwise."""
    matters_of_taste = {
        "pool-without-taints",
        "selectors-overlap",
        "shared-under-the-usual-name",
        "stack-not-declared",
        # A set-up cannot tell that a quota of another system covers a team.
        "team-without-quota",
    }

    assert {each.rule.id for each in advise(load_placed(folder / "reference"))} <= matters_of_taste
