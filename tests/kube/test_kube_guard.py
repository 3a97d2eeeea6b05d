"""The guard: what each request does to the cluster, and that a refused one never leaves the process."""

import pytest
from fake_api import Answer, FakeApi
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from conformance.kube.client import Client
from conformance.kube.connection import Connection
from conformance.kube.effects import Effect
from conformance.kube.errors import ApiError, EffectRefused, UnclearPath
from conformance.kube.guard import Guard

RUN_ID = "abcdefgh"
OWN = f"gpuc-{RUN_ID}-lab"
PODS = "/api/v1/namespaces/{}/pods"
GUARD = Guard(Effect.DISRUPTIVE, RUN_ID)
ANYTHING = st.text(max_size=12)
PATHS_OF_ANYTHING = ANYTHING | st.lists(ANYTHING).map(lambda parts: "/" + "/".join(parts))
METHODS = st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])

READS = [
    ("GET", "/api/v1/nodes"),
    ("GET", "/api/v1/namespaces/demo/pods/a"),
    ("GET", "/api/v1/namespaces/proxy/pods"),
    ("GET", "/api/v1/namespaces/demo/pods/a/log"),
    ("GET", "/api/v1/namespaces/demo/status"),
    ("GET", "/api/v1/nodes/a/status"),
    ("HEAD", "/api/v1/pods"),
    ("get", "/apis/apps/v1/deployments"),
    ("GET", "/apis/rbac.authorization.k8s.io/v1/clusterroles/system:node"),
    ("GET", "/version"),
    ("GET", "/readyz"),
    ("GET", "/openapi/v3"),
    ("GET", "/apis"),
    ("GET", "/apis/nvidia.com/v1"),
    ("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"),
    ("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews"),
    ("POST", "/apis/authorization.k8s.io/v1/namespaces/demo/localsubjectaccessreviews"),
    ("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews"),
]

DISRUPTIVE = [
    ("GET", "/api/v1/namespaces/demo/pods/a/exec"),
    ("GET", "/api/v1/namespaces/demo/pods/a/attach"),
    ("GET", "/api/v1/namespaces/demo/pods/a/portforward"),
    ("GET", "/api/v1/namespaces/demo/pods/a/proxy"),
    ("GET", "/api/v1/namespaces/demo/services/https:a:443/proxy/admin/shutdown"),
    ("GET", "/api/v1/nodes/a/proxy/run/demo/a/a"),
    ("GET", "/api/v1/proxy/nodes/a/logs"),
    ("GET", "/api/v1/proxy/nodes"),
    ("GET", "/api/v1/watch/pods"),
    ("GET", "/api/v1/namespaces/demo/pods/a/log/below"),
    ("PATCH", "/api/v1/nodes/a/status/below"),
    ("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews/a"),
    ("PUT", "/api/v1/namespaces/demo/serviceaccounts/a/token"),
    ("GET", "/apis/subresources.kubevirt.io/v1/namespaces/demo/virtualmachineinstances/a/console"),
    ("GET", "/debug/pprof/profile"),
    ("GET", "/"),
    ("POST", "/apis/authentication.k8s.io/v1/tokenreviews"),
    ("POST", "/apis/example.com/v1/subjectaccessreviews"),
    ("POST", "/api/v1/namespaces/demo/pods"),
    ("POST", "/api/v1/namespaces/demo/pods/a/eviction"),
    ("POST", "/api/v1/namespaces/demo/pods/a/exec"),
    ("DELETE", "/api/v1/namespaces/demo/pods"),
    ("DELETE", "/api/v1/nodes"),
    ("DELETE", "/api/v1/nodes/a"),
    ("PATCH", "/api/v1/nodes"),
    ("POST", "/api/v1/nodes"),
    ("PATCH", "/api/v1/nodes/a/proxy"),
    ("PUT", "/apis/example.com/v1/nodes/a"),
    ("DELETE", "/apis/scheduling.k8s.io/v1/priorityclasses"),
    ("DELETE", "/api/v1/namespaces/demo"),
    ("PUT", "/api/v1/namespaces/demo/finalize"),
    ("PUT", "/debug/flags/v"),
    ("POST", "/api/v1/namespaces/demo/serviceaccounts/a/tokens"),
    ("TRACE", "/api/v1/nodes"),
    ("CONNECT", "/api/v1/nodes"),
]

# Spellings under which a server, or a proxy before it, could find another path than the one that is written.
UNCLEAR = [
    "/api/v1/namespaces/demo/../../nodes/a",
    f"/api/v1/namespaces/{OWN}/../demo/pods/a",
    f"/api/v1/namespaces/{OWN}/%2e%2e/demo/pods/a",
    f"/api/v1/namespaces/{OWN}/%2E%2e/demo/pods/a",
    f"/api/v1/namespaces/{OWN}%2f..%2fdemo/pods/a",
    f"/api/v1/namespaces/{OWN}/pods/%252e%252e/a",
    f"/api/v1/namespaces//{OWN}/pods",
    f"//api/v1/namespaces/{OWN}/pods",
    f"/api/v1/namespaces/{OWN}/pods/",
    f"/api/v1/namespaces/{OWN}/./pods",
    "/api/v1/namespaces/demo/pods/a/pro%78y",
    "/api/v1/namespaces/demo/pods/a/exec?x=/api/v1/nodes",
    "/api/v1/nodes/a#/status",
    "/api/v1/nodes/a\\..\\b",
    "/api/v1/nodes/a%00",
    "/api/v1/nodes/a\r\nX: y",
    "/api/v1/nodes/ä",
    "api/v1/nodes",
    "http://elsewhere/api/v1/nodes",
    "",
]


@pytest.mark.parametrize(("method", "path"), READS)
def test_reading_is_recognised(method: str, path: str) -> None:
    assert GUARD.effect_of(method, path) == Effect.READS


@pytest.mark.parametrize(("method", "path"), DISRUPTIVE)
def test_what_reaches_others_is_disruptive(method: str, path: str) -> None:
    assert GUARD.effect_of(method, path) == Effect.DISRUPTIVE


@pytest.mark.parametrize("path", UNCLEAR)
@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
def test_a_path_with_two_readings_is_disruptive_and_never_passes(method: str, path: str) -> None:
    assert GUARD.effect_of(method, path, {"dryRun": "All"}) == Effect.DISRUPTIVE
    with pytest.raises(UnclearPath):
        GUARD.check(method, path)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", PODS.format(OWN)),
        ("POST", PODS.format("gpu-conformance")),
        ("DELETE", PODS.format(OWN)),
        ("GET", f"/api/v1/namespaces/{OWN}/pods/a/log"),
        ("POST", f"/api/v1/namespaces/{OWN}/pods/a/exec"),
        ("POST", f"/api/v1/namespaces/{OWN}/pods/a/eviction"),
        ("PATCH", f"/api/v1/namespaces/{OWN}"),
        ("DELETE", f"/api/v1/namespaces/{OWN}"),
        ("PUT", f"/api/v1/namespaces/{OWN}/finalize"),
        ("POST", "/api/v1/namespaces/demo/serviceaccounts/a/token"),
    ],
)
def test_writes_in_own_namespaces_and_token_requests_stay_there(method: str, path: str) -> None:
    assert GUARD.effect_of(method, path) <= Effect.OWN_NAMESPACE


@pytest.mark.parametrize("namespace", ["gpuc-abcdefgi-lab", "gpuc-abcdefgh", "xgpuc-abcdefgh-lab", "GPUC-abcdefgh-lab"])
def test_namespaces_that_only_look_like_ours_are_not(namespace: str) -> None:
    assert GUARD.effect_of("POST", PODS.format(namespace)) == Effect.DISRUPTIVE


def test_without_a_run_only_the_home_namespace_is_ours() -> None:
    guard = Guard(Effect.DISRUPTIVE)

    assert guard.effect_of("POST", PODS.format("gpu-conformance")) == Effect.OWN_NAMESPACE
    assert guard.effect_of("POST", PODS.format(OWN)) == Effect.DISRUPTIVE


def test_a_short_run_id_cannot_claim_the_objects_of_other_runs() -> None:
    with pytest.raises(ValueError, match="8 characters"):
        Guard(Effect.DISRUPTIVE, "a")


@pytest.mark.parametrize(
    ("body", "effect"),
    [
        ({"metadata": {"name": OWN}}, Effect.OWN_NAMESPACE),
        ({"metadata": {"generateName": f"gpuc-{RUN_ID}-"}}, Effect.OWN_NAMESPACE),
        ({"metadata": {"name": "gpu-conformance"}}, Effect.OWN_NAMESPACE),
        ({"metadata": {"name": "demo", "generateName": f"gpuc-{RUN_ID}-"}}, Effect.DISRUPTIVE),
        ({"metadata": {"name": "demo"}}, Effect.DISRUPTIVE),
        ({"metadata": {"name": [OWN]}}, Effect.DISRUPTIVE),
        ({"metadata": None}, Effect.DISRUPTIVE),
        ([], Effect.DISRUPTIVE),
        (None, Effect.DISRUPTIVE),
    ],
)
def test_a_new_namespace_is_judged_by_the_name_in_the_body(body: object, effect: Effect) -> None:
    assert GUARD.effect_of("POST", "/api/v1/namespaces", None, body) == effect


def test_cluster_scoped_objects_of_the_run_are_own_cluster_objects() -> None:
    classes = "/apis/scheduling.k8s.io/v1/priorityclasses"
    body = {"metadata": {"name": f"gpuc-{RUN_ID}-high"}, "value": 5, "globalDefault": False}

    assert GUARD.effect_of("POST", classes, None, body) == Effect.OWN_CLUSTER_OBJECTS
    assert GUARD.effect_of("PATCH", f"{classes}/gpuc-{RUN_ID}-high", None, body) == Effect.OWN_CLUSTER_OBJECTS
    assert GUARD.effect_of("DELETE", f"{classes}/gpuc-{RUN_ID}-high") == Effect.OWN_CLUSTER_OBJECTS
    assert GUARD.effect_of("PATCH", f"{classes}/training", None, body) == Effect.DISRUPTIVE


@pytest.mark.parametrize("value", [True, "true", 1, {}, [False]])
def test_a_global_default_priority_class_concerns_everybody_whatever_its_name(value: object) -> None:
    path = f"/apis/scheduling.k8s.io/v1/priorityclasses/gpuc-{RUN_ID}-high"

    assert GUARD.effect_of("PATCH", path, None, {"globalDefault": value}) == Effect.DISRUPTIVE
    operations = [{"op": "replace", "path": "/globalDefault", "value": value}]
    assert GUARD.effect_of("PATCH", path, None, operations) == Effect.DISRUPTIVE


@pytest.mark.parametrize(
    "resource", ["mutatingwebhookconfigurations", "validatingadmissionpolicybindings", "mutatingadmissionpolicies"]
)
def test_admission_rules_concern_everybody_whatever_their_name(resource: str) -> None:
    path = f"/apis/admissionregistration.k8s.io/v1/{resource}/gpuc-{RUN_ID}-x"

    assert GUARD.effect_of("PATCH", path, None, {}) == Effect.DISRUPTIVE


@pytest.mark.parametrize("path", ["/api/v1/nodes/a", "/api/v1/nodes/a/status"])
@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_changing_a_node_patches_nodes(method: str, path: str) -> None:
    assert GUARD.effect_of(method, path, None, {}) == Effect.PATCHES_NODES


def test_a_dry_run_is_harmless_only_where_the_server_honours_it() -> None:
    dry = {"dryRun": "All"}

    assert GUARD.effect_of("POST", PODS.format("demo"), dry, {}) == Effect.OWN_NAMESPACE
    assert GUARD.effect_of("PATCH", "/api/v1/nodes/a", dry, {}) == Effect.OWN_NAMESPACE
    assert GUARD.effect_of("DELETE", "/api/v1/nodes/a", dry) == Effect.OWN_NAMESPACE
    assert GUARD.effect_of("POST", PODS.format("demo") + "/a/exec", dry) == Effect.DISRUPTIVE
    assert GUARD.effect_of("POST", PODS.format("demo"), {"dryRun": "all"}, {}) == Effect.DISRUPTIVE


def test_a_delete_with_options_in_its_body_is_dry_only_if_the_body_says_so() -> None:
    path, dry = "/api/v1/nodes/a", {"dryRun": "All"}

    assert GUARD.effect_of("DELETE", path, dry, {"kind": "DeleteOptions"}) == Effect.DISRUPTIVE
    assert GUARD.effect_of("DELETE", path, None, {"dryRun": ["All"]}) == Effect.OWN_NAMESPACE


def test_narrowing_never_widens() -> None:
    narrow = Guard(Effect.READS, RUN_ID).narrowed(Effect.DISRUPTIVE, "PRIO-03")

    assert narrow.limit == Effect.READS
    assert narrow.requirement == "PRIO-03"
    assert narrow.narrowed(Effect.DISRUPTIVE).requirement == "PRIO-03"


# Every path that can be anything else than disruptive starts like this.
RECOGNISED = ("/api", "/healthz", "/livez", "/metrics", "/openapi", "/openid", "/readyz", "/version", "/.well-known")


@settings(deadline=None)
@given(method=ANYTHING, path=PATHS_OF_ANYTHING)
def test_a_method_that_is_not_recognised_is_disruptive(method: str, path: str) -> None:
    assume(method.upper() not in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})

    assert GUARD.effect_of(method, path) == Effect.DISRUPTIVE


@settings(deadline=None)
@given(method=METHODS, path=PATHS_OF_ANYTHING)
def test_a_path_that_is_not_recognised_is_disruptive(method: str, path: str) -> None:
    assume(not path.startswith(RECOGNISED))

    assert GUARD.effect_of(method, path) == Effect.DISRUPTIVE


OURS = [OWN, "gpu-conformance"]
TRICKS = ["..", ".", "", "%2e%2e", "%2f", "a%2fb"]
WORDS = ["api", "apis", "v1", "apps", "namespaces", "demo", "nodes", "pods", "a", "priorityclasses", "serviceaccounts"]
SUBRESOURCES = ["exec", "finalize", "proxy", "status", "token", "watch"]
SEGMENTS = st.sampled_from([*OURS, *TRICKS, *WORDS, *SUBRESOURCES])
PATHS = st.lists(SEGMENTS, min_size=1, max_size=9).map(lambda parts: "/" + "/".join(parts))


def _names_something_of_ours(path: str) -> bool:
    return any(part in OURS for part in path.split("/"))


@settings(deadline=None)
@given(method=METHODS.filter(lambda method: method not in {"GET", "HEAD"}), path=PATHS)
def test_a_write_that_names_nothing_of_ours_is_at_least_a_change_of_nodes(method: str, path: str) -> None:
    effect = GUARD.effect_of(method, path, {}, None)

    token = method == "POST" and path.endswith("/token") and "/serviceaccounts/" in path
    assert effect >= Effect.PATCHES_NODES or _names_something_of_ours(path) or token


@settings(deadline=None)
@given(method=METHODS, path=PATHS)
def test_a_path_as_a_server_would_clean_it_is_never_judged_higher(method: str, path: str) -> None:
    """Whatever a server makes of dots, escapes and double slashes, the written path was judged as at least that."""
    assert GUARD.effect_of(method, path) >= GUARD.effect_of(method, _cleaned(path))


def _cleaned(path: str) -> str:
    kept: list[str] = []
    for part in path.replace("%2e", ".").replace("%2f", "/").split("/"):
        if part == "..":
            kept = kept[:-1]
        elif part not in {"", "."}:
            kept.append(part)
    return "/" + "/".join(kept)


def _reader(connection: Connection) -> Client:
    return Client(connection, Guard(Effect.READS, RUN_ID))


def test_a_refused_write_never_leaves_the_process(api: FakeApi, connection: Connection) -> None:
    reader = _reader(connection)
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": OWN}}
    attempts = [
        lambda: reader.create(PODS.format(OWN), body),
        lambda: reader.create(PODS.format(OWN), body, dry_run=True),
        lambda: reader.replace(PODS.format(OWN) + "/a", body),
        lambda: reader.patch("/api/v1/nodes/a", {"metadata": {"labels": {"a": "b"}}}),
        lambda: reader.patch("/api/v1/nodes/a", [{"op": "remove", "path": "/spec"}], kind="json"),
        lambda: reader.apply(body, force=True),
        lambda: reader.delete(PODS.format(OWN) + "/a", grace_seconds=0),
        lambda: reader.request("POST", "/api/v1/namespaces/demo/pods/a/exec"),
        lambda: reader.request("get", "/api/v1/namespaces/demo/pods/a/exec"),
        lambda: reader.get("/api/v1/nodes/a/proxy/configz"),
        lambda: list(reader.watch("/api/v1/nodes/a/proxy", timeout=0.1)),
        lambda: list(reader.pages("/api/v1/nodes/a/proxy")),
        lambda: reader.with_token("t").delete("/api/v1/nodes/a"),
        lambda: reader.for_requirement("PRIO-03", Effect.DISRUPTIVE).delete("/api/v1/nodes/a"),
    ]
    for attempt in attempts:
        with pytest.raises(EffectRefused):
            attempt()

    assert api.asked == []


def test_an_unclear_path_never_leaves_the_process(api: FakeApi, client: Client) -> None:
    for path in UNCLEAR:
        with pytest.raises(UnclearPath):
            client.request("DELETE", path)

    assert api.asked == []


def test_a_redirect_is_not_followed_past_the_guard(api: FakeApi, client: Client) -> None:
    api.script(Answer(status=307, headers={"Location": "/api/v1/nodes/a"}))
    with pytest.raises(ApiError) as caught:
        client.request("DELETE", PODS.format(OWN) + "/a")

    assert caught.value.status == 307
    assert len(api.asked) == 1


def test_a_refusal_names_the_requirement_and_both_effects(connection: Connection) -> None:
    scenario = Client(connection, GUARD).for_requirement("QUOTA-01", Effect.OWN_NAMESPACE)

    with pytest.raises(EffectRefused, match=r"patches-nodes, but requirement QUOTA-01 declares no more than own-names"):
        scenario.patch("/api/v1/nodes/a", {})
