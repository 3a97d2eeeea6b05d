"""Tokens of service accounts: the field of a pod spec overrides that of its account. Reviews of what accounts do."""

import threading
from typing import Any

import pytest

from conformance.facts import Facts
from conformance.reference.model import Access, ServiceAccount
from conformance.verdict import Inconclusive, Judge
from suites.tenancy.access_checks import AccessCheck, Account, reviewed
from suites.tenancy.test_tenancy import test_accounts_without_need_of_a_token_have_the_field as tokenless

TEAM = "ml-serving"
ACCOUNT = Account(TEAM, ServiceAccount(name="server", automount_token=False))
LIVE = {
    "apiVersion": "v1",
    "kind": "ServiceAccount",
    "metadata": {"name": "server", "namespace": TEAM},
    "automountServiceAccountToken": False,
}


def spec(token: bool | None, account: str = "server") -> dict[str, Any]:
    field = {} if token is None else {"automountServiceAccountToken": token}
    return {"serviceAccountName": account, "containers": [{"name": "main", "image": "i"}], **field}


def deployment(token: bool | None, **more: Any) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "llm", "namespace": TEAM},
        "spec": {"template": {"spec": spec(token, **more)}},
    }


def pod(token: bool | None, name: str = "llm-1", phase: str = "Running", **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": TEAM, **metadata},
        "spec": spec(token),
        "status": {"phase": phase},
    }


def broken(*objects: dict[str, Any]) -> list[str]:
    judge = Judge()
    tokenless((ACCOUNT,), Facts.from_objects([LIVE, *objects]), judge)
    return [str(each.subject) for each in judge.broken]


@pytest.mark.parametrize("token", [None, False])
def test_a_template_that_leaves_it_to_the_account_is_right(token):
    assert not broken(deployment(token), pod(token))


def test_a_template_that_overrides_the_account_is_reported_once_and_its_pods_with_it():
    owner = {"kind": "ReplicaSet", "name": "llm-5d9f", "controller": True, "apiVersion": "apps/v1", "uid": "r"}
    replicas = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": "llm-5d9f",
            "namespace": TEAM,
            "ownerReferences": [{"kind": "Deployment", "name": "llm", "controller": True, "uid": "d"}],
        },
    }

    assert broken(deployment(True), replicas, pod(True, ownerReferences=[owner])) == [f"deployment {TEAM}/llm"]


def test_a_pod_that_overrides_it_by_itself_is_reported_unless_it_has_ended():
    assert broken(pod(True, "notebook"), pod(True, "done", "Succeeded")) == [f"pod {TEAM}/notebook"]


def test_the_template_of_another_account_is_none_of_its_business():
    assert not broken(deployment(True, account="other"))


CHECKS = [AccessCheck(ACCOUNT, Access(verb, "pods")) for verb in ("get", "delete", "list", "create")]


class Reviews:
    """A lab whose API server answers once two reviews have arrived; it refuses those of ``refused``."""

    def __init__(self, refused: str = "") -> None:
        self._together = threading.Barrier(2, timeout=10)
        self._refused = refused

    def can(self, _account: Any, verb: str, _resource: str, **_where: str) -> bool:
        self._together.wait()
        if verb == self._refused:
            raise Inconclusive(f"nobody may ask about {verb}")
        return verb in ("get", "list")


def test_reviews_are_asked_for_side_by_side_and_told_in_their_order():
    decisions = list(reviewed(CHECKS, Reviews()))

    assert decisions == list(zip(CHECKS, ("allowed", "denied", "allowed", "denied"), strict=True))


def test_what_was_reviewed_before_a_refusal_is_told():
    answers = reviewed(CHECKS, Reviews("list"))

    assert [next(answers) for _ in range(2)] == [(CHECKS[0], "allowed"), (CHECKS[1], "denied")]
    with pytest.raises(Inconclusive, match="about list"):
        next(answers)
