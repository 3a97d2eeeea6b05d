"""What a pod asks for, compared with a play of its life in which the busiest moment counts."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from conformance.gpu.quantities import quantity
from conformance.gpu.requests import Asking, effective_requests, pod_requests
from conformance.gpu.resources import GPU, is_gpu_resource, quota_key

requests = st.dictionaries(st.sampled_from(["cpu", GPU]), st.sampled_from(["0", "250m", "1", "2", "8"]), max_size=2)
ordinary = st.lists(st.builds(Asking, requests), max_size=3)
starting = st.lists(st.builds(Asking, requests, st.booleans()), max_size=4)


def busiest_moment(containers: list[Asking], init_containers: list[Asking], resource: str) -> Fraction:
    """Play the pod: init containers one after the other, sidecars staying, then everything else at once."""

    def asked(running: list[Asking]) -> Fraction:
        return sum((quantity(each.requests.get(resource, "0")) for each in running), Fraction(0))

    staying: list[Asking] = []
    moments = [Fraction(0)]
    for each in init_containers:
        moments.append(asked([*staying, each]))
        if each.restartable:
            staying.append(each)
    moments.append(asked([*staying, *containers]))
    return max(moments)


@given(ordinary, starting)
def test_the_busiest_moment_of_a_pod_is_what_it_asks_for(containers: list[Asking], init: list[Asking]) -> None:
    asked = pod_requests(containers, init)

    for resource in ("cpu", GPU):
        assert asked.get(resource, Fraction(0)) == busiest_moment(containers, init, resource)


def test_an_init_container_counts_only_where_it_asks_for_more_than_the_containers() -> None:
    containers = [Asking({GPU: "1"}), Asking({GPU: "1"})]

    assert pod_requests(containers, [Asking({GPU: "1"})])[GPU] == 2
    assert pod_requests(containers, [Asking({GPU: "4"})])[GPU] == 4


def test_a_sidecar_adds_to_the_containers_and_to_the_init_containers_after_it() -> None:
    sidecar = Asking({GPU: "1"}, restartable=True)

    assert pod_requests([Asking({GPU: "2"})], [sidecar])[GPU] == 3
    assert pod_requests([Asking({GPU: "2"})], [sidecar, Asking({GPU: "4"})])[GPU] == 5
    assert pod_requests([Asking({GPU: "2"})], [Asking({GPU: "4"}), sidecar])[GPU] == 4


def test_overhead_comes_on_top_and_pod_level_requests_replace_cpu_but_never_gpus() -> None:
    asked = pod_requests(
        [Asking({"cpu": "1", GPU: "1"})], pod_level={"cpu": "3", GPU: "7"}, overhead={"cpu": "250m", "memory": "1Gi"}
    )

    assert asked == {"cpu": Fraction(13, 4), GPU: Fraction(1), "memory": Fraction(2**30)}


def test_a_limit_without_a_request_is_the_request() -> None:
    assert effective_requests({"cpu": "1"}, {"cpu": "2", GPU: "1"}) == {"cpu": "1", GPU: "1"}


def test_gpu_resources_are_told_from_others() -> None:
    gpus = ["nvidia.com/gpu", "nvidia.com/gpu.shared", "nvidia.com/mig-1g.5gb"]
    others = ["cpu", "nvidia.com/gpu.product", "amd.com/gpu", "requests.nvidia.com/gpu", "nvidia.com/gpumem"]

    assert [name for name in gpus + others if is_gpu_resource(name)] == gpus
    assert quota_key(GPU) == "requests.nvidia.com/gpu"
