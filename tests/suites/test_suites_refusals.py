"""Who refused a pod: the quota that is tried, or a policy that would refuse any pod."""

import pytest

from conformance.kube.timeouts import Timeouts
from conformance.lab import Rejected
from conformance.verdict import ExpectationFailed, Inconclusive
from suites._shared.quota_namespace import ADMITTED, BY_LIMIT_RANGE, REFUSED, QuotaNamespace, outcome

GPU = "nvidia.com/gpu"
QUOTA = Rejected(
    403, "Forbidden", 'pods "quota-x" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=3'
)
IMAGES = Rejected(403, "Forbidden", "admission webhook denied the request: images of unknown registries")
AT_MOST_ONE = Rejected(422, "Invalid", "ValidatingAdmissionPolicy denied request: one GPU at most")
PER_POD = Rejected(403, "Forbidden", "maximum nvidia.com/gpu usage per Pod is 2.  No limit is specified")


class Server:
    """A lab whose API server answers by what a pod asks for."""

    pause_image = "registry.k8s.io/pause:3.10"
    timeouts = Timeouts(quota_counted=0.2)

    def __init__(self, answer):
        self.answer = answer
        self.images = set()

    def namespace(self):
        return "own"

    def quota(self, *_, **__):
        return None

    def dry_run(self, pod):
        [container] = pod["spec"]["containers"]
        self.images.add(container["image"])
        return self.answer(int(container["resources"]["requests"].get(GPU, 0)))

    create_or_refusal = dry_run


def namespace(answer):
    return QuotaNamespace(Server(answer), {f"requests.{GPU}": 2})


def test_only_the_words_of_the_quota_are_a_refusal_by_it():
    assert outcome({"kind": "Pod"}) == ADMITTED
    assert outcome(QUOTA) == REFUSED
    assert outcome(IMAGES) == f"refused with 403: {IMAGES.message}"
    assert outcome(PER_POD, BY_LIMIT_RANGE) == REFUSED
    assert outcome(QUOTA, BY_LIMIT_RANGE) != REFUSED


def test_a_quota_that_does_its_work_passes():
    sound = namespace(lambda gpus: QUOTA if gpus > 2 else {"kind": "Pod"})

    sound.admits({GPU: 2}, because="the quota is 2")
    sound.refuses({GPU: 3}, because="the quota is 2")


def test_an_api_server_that_hears_of_the_quota_a_moment_late_refuses_in_time():
    late = iter(({"kind": "Pod"}, {"kind": "Pod"}, QUOTA))

    namespace(lambda gpus: next(late)).refuses({GPU: 3}, because="the quota is 2")


def test_an_api_server_that_hears_a_moment_late_of_what_is_free_again_admits_in_time():
    late = iter((QUOTA, QUOTA, {"kind": "Pod"}, {"kind": "Pod"}))

    namespace(lambda gpus: next(late)).admits({GPU: 1}, because="no pod uses it any more")


def test_a_quota_that_never_gives_back_fails():
    stuck = namespace(lambda gpus: QUOTA)

    with pytest.raises(ExpectationFailed, match="found refused by the quota"):
        stuck.admits({GPU: 1}, because="no pod uses it any more")


def test_a_quota_that_never_refuses_fails():
    idle = namespace(lambda gpus: {"kind": "Pod"})

    with pytest.raises(ExpectationFailed, match="found admitted"):
        idle.refuses({GPU: 3}, because="the quota is 2")


def test_a_policy_that_refuses_every_pod_proves_nothing_about_quotas():
    fenced = namespace(lambda gpus: IMAGES)

    with pytest.raises(Inconclusive, match="a pod without GPU request is not admitted either"):
        fenced.admits({GPU: 2}, because="the quota is 2")
    with pytest.raises(Inconclusive, match="images of unknown registries"):
        fenced.refuses({GPU: 3}, because="the quota is 2")


def test_a_policy_about_gpus_is_not_the_quota():
    capped = namespace(lambda gpus: AT_MOST_ONE if gpus > 1 else {"kind": "Pod"})

    with pytest.raises(ExpectationFailed, match="one GPU at most"):
        capped.admits({GPU: 2}, because="the quota is 2")
    with pytest.raises(ExpectationFailed, match="one GPU at most"):
        capped.refuses({GPU: 3}, because="the quota is 2")


def test_pods_have_an_image_that_exists():
    sound = namespace(lambda gpus: {"kind": "Pod"})

    sound.admits({GPU: 1}, because="the quota is 2")

    assert sound._lab.images == {"registry.k8s.io/pause:3.10"}
