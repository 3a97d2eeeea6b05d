"""Tokens of service accounts: the field of a pod spec overrides that of its account."""

from typing import Any

import pytest

from conformance.facts import Facts
from conformance.reference.model import ServiceAccount
from conformance.verdict import Judge
from suites.tenancy.access_checks import Account
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
