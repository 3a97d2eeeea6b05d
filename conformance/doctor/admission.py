"""What the cluster does to a run's pods: where their images come from, and whether admission lets them in."""

from collections.abc import Iterator, Mapping
from typing import Any

from conformance.doctor.answers import Answer, State
from conformance.kube.client import Client
from conformance.kube.errors import EffectRefused, Forbidden, KubeError, NotFound
from conformance.kube.names import HOME_NAMESPACE
from conformance.kube.paths import path
from conformance.lab.images import IMAGES, Images
from conformance.lab.podspec import Asked, pod_spec
from conformance.lab.refusals import Accepted, Rejected, answer_to
from conformance.verdict import Inconclusive

_ENFORCE = "pod-security.kubernetes.io/enforce"
_WEBHOOKS = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")
_POLICIES = ("ValidatingAdmissionPolicy", "MutatingAdmissionPolicy")
_PODS = {"pods", "*", "*/*", "pods/*"}


def images(client: Client, chosen: Images) -> Iterator[Answer]:
    """Where the images of a run's pods come from, and whether the pull secret can be copied."""
    # Without the digests, which `gpu-conformance images` prints.
    named = " and ".join(reference.partition("@")[0] for reference in chosen.all())
    if chosen.registry:
        yield Answer("images", State.OK, f"nodes pull {named}, from the registry that the clusters file names")
    else:
        text = f"nodes pull {named}, each from where it is published"
        remedy = (
            "Without the internet: mirror what `gpu-conformance images` lists and set registry in the clusters file."
        )
        yield Answer("images", State.NOTE, text, remedy)
    if chosen.pull_secret:
        yield _pull_secret(client, chosen.pull_secret)


def _pull_secret(client: Client, named: str) -> Answer:
    namespace, _, name = named.partition("/")
    try:
        client.get(path("Secret", namespace=namespace, name=name))
    except KubeError as error:
        return Answer(
            "pull secret", State.BLOCKED, str(error), "Create it, or correct pull_secret in the clusters file."
        )
    return Answer("pull secret", State.OK, f"secret {named} is copied into each namespace of a run")


def pods_are_admitted(client: Client, chosen: Images) -> Iterator[Answer]:
    """Offer one pod for each image as a dry run, and tell whether it is refused or changed.

    The namespaces of a run are there only while it runs; the records namespace, or ``default``, stands for them.
    """
    namespace, level = _namespace(client)
    for name in IMAGES:
        wanted = chosen.reference(name)
        pod = _pod(name, namespace, wanted)
        collection = path("Pod", namespace=namespace)
        try:
            answer = answer_to(client, pod, lambda pod=pod, at=collection: client.create(at, pod, dry_run=True))  # type: ignore[misc]
        except (Inconclusive, EffectRefused):
            yield Answer("admission", State.NOTE, f"not tried: may not create pods in namespace {namespace}")
            return
        except KubeError as error:
            yield Answer("admission", State.ATTENTION, f"a pod could not be tried in namespace {namespace}: {error}")
            return
        yield _told(answer, name, namespace, level, wanted)


def _told(answer: Accepted | Rejected, name: str, namespace: str, level: str, wanted: str) -> Answer:
    said = f"namespace {namespace} ({level})"
    if isinstance(answer, Rejected):
        remedy = "Exempt the namespaces gpuc-* (label gpu-conformance.io/run-id) from what refuses it."
        return Answer("admission", State.ATTENTION, f"{said} refuses a pod of image {name}: {answer.message}", remedy)
    spec = answer.object.get("spec") or {}
    got = str(((spec.get("containers") or [{}])[0]).get("image") or "")
    if got != wanted:
        text = f"{said} takes a pod of image {name}, and something there makes it {got} of {wanted}"
        return Answer("admission", State.NOTE, text, "Make sure that nodes can pull that.")
    return Answer("admission", State.OK, f"{said} takes a pod of image {name} as it is")


def _namespace(client: Client) -> tuple[str, str]:
    """Where a pod is tried, and in words the Pod Security level that its label enforces."""
    for name in (HOME_NAMESPACE, "default"):
        try:
            found = client.get(path("Namespace", name=name))
        except (NotFound, Forbidden):
            continue
        level = (found["metadata"].get("labels") or {}).get(_ENFORCE)
        return name, f"Pod Security {level}" if level else "no Pod Security label, as those of a run"
    return "default", "Pod Security unknown"


def _pod(name: str, namespace: str, image: str) -> dict[str, Any]:
    spec = pod_spec(Asked(resources={"cpu": "10m", "memory": "16Mi"}, image=image))
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": f"gpuc-doctor-{name}-", "namespace": namespace},
        "spec": spec,
    }


def deciders(client: Client) -> Answer:
    """The webhooks that are asked about every pod, and how many policies there are; they may refuse a run's pods."""
    found: list[str] = []
    try:
        for kind in _WEBHOOKS:
            for each in client.list(path(kind)):
                found += [f"{each['metadata']['name']} ({policy})" for policy in _about_pods(each)]
        for kind in _POLICIES:
            found += [f"{kind} {each['metadata']['name']}" for each in _listed(client, kind) if _matches_pods(each)]
    except Forbidden:
        return Answer("policies", State.NOTE, "may not list webhooks and admission policies: what decides is not known")
    except KubeError as error:
        return Answer("policies", State.NOTE, f"what decides about pods here could not be read: {error}")
    if not found:
        return Answer("policies", State.OK, "no webhook and no admission policy decides about pods")
    text = f"these decide about pods and may refuse or change those of a run: {', '.join(dict.fromkeys(found))}"
    return Answer("policies", State.NOTE, text)


def _about_pods(configuration: Mapping[str, Any]) -> Iterator[str]:
    """The failure policy of each webhook of a configuration that is asked about new pods."""
    for webhook in configuration.get("webhooks") or ():
        if any(_covers_pods(rule) for rule in webhook.get("rules") or ()):
            yield str(webhook.get("failurePolicy") or "Fail")


def _matches_pods(policy: Mapping[str, Any]) -> bool:
    constraints = (policy.get("spec") or {}).get("matchConstraints") or {}
    return any(_covers_pods(rule) for rule in constraints.get("resourceRules") or ())


def _covers_pods(rule: Mapping[str, Any]) -> bool:
    groups, resources = set(rule.get("apiGroups") or ()), set(rule.get("resources") or ())
    operations = set(rule.get("operations") or ())
    return bool(groups & {"", "*"} and resources & _PODS and operations & {"CREATE", "*"})


def _listed(client: Client, kind: str) -> list[dict[str, Any]]:
    try:
        return client.list(path(kind))
    except NotFound:
        return []
