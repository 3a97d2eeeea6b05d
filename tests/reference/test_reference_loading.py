"""Loading a set-up: what is accepted, and how everything that is wrong is told."""

from pathlib import Path
from textwrap import dedent

import pytest

from conformance.reference import InvalidReference, ReferenceError, load
from conformance.reference.model import Reference
from conformance.shipped import shipped

WHOLE = """\
name: small
pools:
  - name: t4
    selector: {pool: t4}
    nodes: 2
    taints:
      - {key: nvidia.com/gpu, value: present, effect: NoSchedule}
    gpu: {model: t4, count: 4}
teams:
  - namespace: serving
    service_accounts: [{name: server}]
    roles: [{name: reader, rules: [{resources: [pods], verbs: [get]}]}]
    bindings: [{name: readers, role: reader, service_accounts: [server]}]
    quotas: [{name: gpus, hard: {requests.nvidia.com/gpu: 8}}]
priority_classes:
  - {name: high, value: 1000, preempts: [low]}
  - {name: low, value: 10, global_default: true, preemption_policy: Never}
workloads:
  - {role: inference, kind: Deployment, namespace: serving, name: llm, pools: [t4], priority_class: high}
"""


def written(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(dedent(text))
    return folder


def refusal(place: Path) -> InvalidReference:
    with pytest.raises(InvalidReference) as raised:
        load(place)
    return raised.value


@pytest.mark.parametrize("name", ["reference", "guide"])
def test_the_shipped_set_ups_load(name: str) -> None:
    reference = load(shipped(f"fixtures/{name}"))

    assert {pool.name for pool in reference.gpu_pools} == {
        "t4-inference",
        "a100-training",
        "h100-training",
        "t4-notebook",
        "t4-shared",
        "a100-mig",
        "l4-mps",
        "h100-dra",
    }
    assert all(workload.manifest for workload in reference.workloads)


def test_a_set_up_loads_from_one_file(tmp_path: Path) -> None:
    reference = load(written(tmp_path, all=WHOLE) / "all.yaml")

    assert isinstance(reference, Reference)
    assert reference.default_priority_class is reference.priority_class("low")
    assert [str(taint) for taint in reference.pools[0].taints] == ["nvidia.com/gpu=present:NoSchedule"]


def test_whole_numbers_in_quotas_become_amounts(tmp_path: Path) -> None:
    assert load(written(tmp_path, all=WHOLE)).teams[0].quotas[0].hard == {"requests.nvidia.com/gpu": "8"}


def test_pools_inherit_the_gpu_resource_of_the_set_up(tmp_path: Path) -> None:
    text = WHOLE.replace("name: small", "name: small\ngpu_resource: amd.com/gpu")

    pool = load(written(tmp_path, all=text)).pools[0]

    assert pool.gpu is not None
    assert pool.gpu.resource == "amd.com/gpu"


@pytest.mark.parametrize("kind", ["device-plugin", "dra-driver"])
def test_a_stack_without_an_operator_brings_nothing_but_itself_unless_that_is_declared(
    tmp_path: Path, kind: str
) -> None:
    text = WHOLE + f"stack: {{kind: {kind}, gpu_feature_discovery: true}}\n"

    stack = load(written(tmp_path, all=text)).stack

    assert stack is not None
    assert stack.gpu_feature_discovery
    assert not any((stack.driver_managed, stack.toolkit, stack.dcgm_exporter, stack.mig_manager))
    assert stack.mig_strategy == ""


def test_an_operator_brings_everything_unless_that_is_declared(tmp_path: Path) -> None:
    stack = load(written(tmp_path, all=WHOLE + "stack: {kind: gpu-operator, mig_manager: false}\n")).stack

    assert stack is not None
    assert all((stack.driver_managed, stack.toolkit, stack.gpu_feature_discovery, stack.dcgm_exporter))
    assert (stack.mig_manager, stack.mig_strategy) == (False, "single")


@pytest.mark.parametrize(
    ("driver", "told"),
    [
        ("v580.95.05", "NVIDIA writes driver versions without a v, and no node could ever equal it; write 580.95.05"),
        ("'580'", "nodes report a whole version such as 580.95.05"),
        ("580.95.05-ubuntu22.04", "nodes report a whole version such as 580.95.05"),
    ],
)
def test_a_driver_that_no_node_can_report_is_refused(tmp_path: Path, driver: str, told: str) -> None:
    text = (
        WHOLE.replace("count: 4", f"count: 4, driver: {driver}") + f"stack: {{kind: gpu-operator, driver: {driver}}}\n"
    )

    of_pool, of_stack = refusal(written(tmp_path, all=text)).problems

    assert told in str(of_pool)
    assert told in str(of_stack)
    assert "pools[0].gpu.driver" in str(of_pool)
    assert "stack.driver" in str(of_stack)


@pytest.mark.parametrize(
    ("toleration", "told"),
    [
        ("{key: a, operator: Exist}", "operator: is 'Exist'. Allowed: Exists, Equal"),
        ("{key: a, effekt: NoSchedule}", "effekt: is no key of a toleration"),
        ("{key: a, operator: Exists, effect: NoShedule}", "effect: is 'NoShedule'"),
        ("{value: a}", "operator: needs to be Exists where no key is named"),
        ("{key: a, operator: Exists, value: b}", "value: must be absent"),
        ("{key: a, operator: Exists, effect: NoSchedule, tolerationSeconds: 60}", "goes with the effect NoExecute"),
    ],
)
def test_a_toleration_that_the_api_server_would_refuse_is_refused(tmp_path: Path, toleration: str, told: str) -> None:
    text = WHOLE + f"stack: {{kind: gpu-operator, tolerations: [{toleration}]}}\n"

    (problem,) = refusal(written(tmp_path, all=text)).problems

    assert "stack.tolerations[0]" in str(problem)
    assert told in str(problem)


def test_files_of_a_directory_are_merged_and_their_lists_joined(tmp_path: Path) -> None:
    written(
        tmp_path,
        a="""
            name: parts
            teams: [{namespace: one}]
        """,
        b="""
            teams: [{namespace: two}]
        """,
    )

    assert [team.namespace for team in load(tmp_path).teams] == ["one", "two"]


def test_positions_survive_joining(tmp_path: Path) -> None:
    written(
        tmp_path, a="name: parts\nteams: [{namespace: one}]\n", b="teams:\n  - namespace: two\n  - namespace: TWO\n"
    )

    (problem,) = refusal(tmp_path).problems

    assert str(problem).startswith(f"{tmp_path}/b.yaml:3  teams[2].namespace: is 'TWO'; allowed: lower-case letters")


def test_a_single_value_in_two_files_is_refused(tmp_path: Path) -> None:
    written(tmp_path, a="name: first\n", b="name: second\n")

    assert (
        str(refusal(tmp_path).problems[0]) == f"{tmp_path}/b.yaml:1  name: is already declared at {tmp_path}/a.yaml:1"
    )


def test_all_problems_are_told_at_once_in_the_order_of_their_lines(tmp_path: Path) -> None:
    text = (
        WHOLE.replace("NoSchedule", "NoSchedul")
        .replace("pools: [t4]", "pools: [t4s]")
        .replace("nodes: 2", "nodes: two")
    )

    error = refusal(written(tmp_path, all=text))

    file = tmp_path / "all.yaml"
    assert str(error).splitlines() == [
        f"the reference set-up {tmp_path} has 3 problems:",
        f"  {file}:5  pools[0].nodes: needs a whole number; found 'two'",
        f"  {file}:7  pools[0].taints[0].effect: is 'NoSchedul'. Did you mean NoSchedule? "
        "Allowed: NoExecute, NoSchedule, PreferNoSchedule",
        f"  {file}:19  workloads[0].pools[0]: no pool is named 't4s'. Did you mean t4? Declared: t4",
    ]


@pytest.mark.parametrize(
    ("right", "wrong", "line", "told"),
    [
        ("nodes: 2", "node: 2", 5, "pools[0].node: is no key here. Did you mean nodes?"),
        ("{model: t4, count: 4}", "{model: t4}", 8, "pools[0].gpu: needs 'count'"),
        ("count: 4", "count: 0", 8, "pools[0].gpu.count: is 0; the least is 1"),
        (
            "{pool: t4}",
            "{pool: 4}",
            4,
            'pools[0].selector.pool: needs text; found the number 4; write it in quotes: "4"',
        ),
        ("{pool: t4}", "{pool: on}", 4, "pools[0].selector.pool: needs text; found true"),
        ("{pool: t4}", "{}", 4, "pools[0].selector: must not be empty"),
        ("{pool: t4}", "[t4]", 4, "pools[0].selector: needs a mapping; found a list"),
        ("{pool: t4}", "{a b: t4}", 4, "pools[0].selector.a b: as a key is 'a b'; allowed: an optional DNS prefix"),
        (
            "value: 1000,",
            "value: 2000000000,",
            16,
            "priority_classes[0].value: is 2000000000; the greatest is 1000000000",
        ),
        ("value: 10,", "value: 10, global_defualt: true,", 17, "priority_classes[1].global_defualt: is no key here"),
        ("preempts: [low]", "preempts: low", 16, "priority_classes[0].preempts: needs a list; found 'low'"),
        ("preempts: [low]", "preempts: [lower]", 16, "no priority class is named 'lower'. Did you mean low?"),
        ("value: 1000,", "value: 1000, global_default: true,", 17, "only one class can be the default"),
        ("name: high", "name: system-high", 16, "names that begin with 'system-' belong to Kubernetes"),
        (
            "name: high",
            "name: low",
            17,
            "priority_classes[1].name: 'low' is already declared at priority_classes[0].name",
        ),
        ("role: reader", "role: writer", 13, "teams[0].bindings[0].role: no role of this team is named 'writer'"),
        ("[server]}]", "[sever]}]", 13, "no service account is named 'sever'. Did you mean server?"),
        (
            "namespace: serving, n",
            "namespace: sering, n",
            19,
            "workloads[0].namespace: no team's namespace is named 'sering'",
        ),
        ("pools: [t4]", "service_account: llm", 19, "no service account of serving is named 'llm'. Declared: server"),
        ("kind: Deployment", "kind: Jobs", 19, "workloads[0].kind: is 'Jobs'. Did you mean Job?"),
        ("    nodes: 2", "    labels: {pool: x}", 5, "pools[0].labels.pool: differs from the pool's selector ('t4')"),
        ("hard: {", "hard: {requests.cpu: a lot, ", 14, "hard[\"requests.cpu\"]: is 'a lot'; allowed: a quantity"),
        ("name: small", "name: ''", 1, "name: is ''; allowed: 1 to 63 letters"),
        ("name: small\n", "", 1, "needs 'name'"),
    ],
)
def test_each_mistake_is_told_with_its_line(tmp_path: Path, right: str, wrong: str, line: int, told: str) -> None:
    assert right in WHOLE
    file = written(tmp_path, all=WHOLE.replace(right, wrong, 1)) / "all.yaml"

    lines = [str(problem) for problem in refusal(file).problems]

    assert any(text.startswith(f"{file}:{line}  ") and told in text for text in lines), lines


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("name: a\nname: b\n", 2, "name: is written twice, first in line 1"),
        ("name: a\npools: [\n", 3, "is not YAML"),
        ("", 1, "is empty"),
        ("- name: a\n", 1, "needs a mapping with keys such as pools and teams; found a list"),
        ("name: a\n---\nname: b\n", 2, "is not YAML"),
        (
            "name: a\npools:\n  - {name: x, selector: {a: b}, taints: &t [{key: k, effect: NoExecute}]}\n"
            "  - {name: y, selector: {a: c}, taints: [{key: k, effect: NoExecute}, {key: k, effect: NoExecute}]}\n",
            4,
            "pools[1].taints[1]: 'k:NoExecute' is already declared at pools[1].taints[0]",
        ),
        (
            "name: a\npools:\n  - {name: x, selector: {a: b}}\n  - {name: y, selector: {a: b, c: d}}\n",
            4,
            "every node of it also belongs to pools[0]",
        ),
    ],
)
def test_broken_files_are_told_with_their_line(tmp_path: Path, text: str, line: int, told: str) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(text)

    lines = [str(problem) for problem in refusal(file).problems]

    assert any(each.startswith(f"{file}:{line}  ") and told in each for each in lines), lines


def test_a_manifest_that_is_not_there_is_told_where_it_is_named(tmp_path: Path) -> None:
    text = WHOLE.replace("pools: [t4]", "manifest: missing.yaml")

    problems = [str(problem) for problem in refusal(written(tmp_path, all=text)).problems]

    assert f"{tmp_path}/all.yaml:19  workloads[0].manifest: {tmp_path}/missing.yaml does not exist" in problems


def test_a_manifest_must_be_the_declared_workload(tmp_path: Path) -> None:
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    written(manifests, llm="apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: other\n  namespace: serving\n")
    text = WHOLE.replace("pools: [t4]", "manifest: manifests/llm.yaml")

    (problem,) = refusal(written(tmp_path, all=text)).problems

    assert str(problem) == (
        f"{manifests}/llm.yaml:4  workloads[0].manifest.metadata.name: is 'other', but the workload declares name 'llm'"
    )


def test_a_quota_key_that_counts_nothing_is_for_a_requirement_to_find(tmp_path: Path) -> None:
    load(written(tmp_path, all=WHOLE.replace("requests.nvidia.com/gpu: 8", "limits.nvidia.com/gpu: 8")))


def test_a_place_that_does_not_exist_is_an_error_for_the_user(tmp_path: Path) -> None:
    with pytest.raises(ReferenceError, match="does not exist"):
        load(tmp_path / "nowhere")
    with pytest.raises(ReferenceError, match=r"has no \*.yaml file"):
        load(tmp_path)


def test_the_example_of_the_manual_loads(tmp_path: Path) -> None:
    manual = Path(__file__).parents[2] / "docs" / "reference.md"
    example = manual.read_text(encoding="utf-8").partition("```yaml\n")[2].partition("```")[0]

    reference = load(written(tmp_path, example=example))

    assert reference.workloads[0].service_account == "server"


SHARED = """
name: shared
stack:
  kind: gpu-operator
  plugin_configs:
    config_map: plugin
    default: sliced
    configs: {slices: {version: v1}}
pools:
  - {name: a, selector: {pool: a}, gpu: {model: t4, count: 1, replicas: 4}}
  - {name: b, selector: {pool: b}, gpu: {model: t4, count: 1, shared_by: mps}}
  - {name: c, selector: {pool: c}, gpu: {model: t4, count: 1, allocated_by: dra}}
test_pods:
  - {name: smi, pools: [d], manifest: smi.yaml}
"""


def test_sharing_that_does_not_fit_together_is_told_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "all.yaml").write_text(SHARED)

    with pytest.raises(InvalidReference) as refused:
        load(tmp_path / "all.yaml")

    text = str(refused.value)
    for told in (
        "stack.plugin_configs.default: no configuration is named 'sliced'. Did you mean slices?",
        "pools[0].gpu.replicas: needs 'shared_by' beside it",
        "pools[1].gpu.shared_by: needs 'replicas' beside it",
        "pools[2].gpu.allocated_by: is dra, and the stack declares no 'dra' driver",
        "test_pods[0].pools[0]: no pool is named 'd'",
        "smi.yaml does not exist",
    ):
        assert told in text


def test_replicas_are_read_under_their_former_name_and_not_under_both(tmp_path: Path) -> None:
    pool = "name: small\npools:\n- name: a\n  selector: {pool: a}\n  gpu:\n    model: t4\n    count: 1\n"

    former = load(written(tmp_path, all=f"{pool}    shared_by: mps\n    shares: 4\n"))
    alone = refusal(written(tmp_path, all=f"{pool}    shares: 4\n"))
    both = refusal(written(tmp_path, all=f"{pool}    shared_by: mps\n    shares: 4\n    replicas: 4\n"))

    gpu = former.pools[0].gpu
    assert gpu is not None
    assert gpu.replicas == 4
    assert "all.yaml:8  pools[0].gpu.replicas: needs 'shared_by' beside it" in str(alone)
    assert "pools[0].gpu.shares: is no key here." in str(both)
