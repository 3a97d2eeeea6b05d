"""A pod with a GPU request and limit, sent to the API server as a dry run: nothing is created."""

from conformance.lab import Accepted, Rejected, RequirementLab
from conformance.subjects import ObjectReference
from conformance.verdict import Judge

# Validation answers 422; a 403 is the answer of an admission policy.
_INVALID = 422
_REWRITERS = "kubectl get mutatingadmissionpolicies,mutatingwebhookconfigurations"


class GpuPod:
    """Judges how the API server validates and defaults GPU amounts, in a namespace of the scenario."""

    def __init__(self, lab: RequirementLab, resource: str) -> None:
        self.resource = resource
        self._lab = lab
        self._namespace = lab.namespace()

    def dry_run(self, *, requests: str = "", limits: str = "") -> Accepted | Rejected:
        """Send the pod as a dry run; an empty amount is left out."""
        amounts = {"requests": requests, "limits": limits}
        resources = {part: {self.resource: amount} for part, amount in amounts.items() if amount}
        container = {"name": "main", "image": "never-pulled", "resources": resources}
        metadata = {"name": "dry-run", "namespace": self._namespace}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}}
        return self._lab.dry_run(pod)

    def must_be_rejected(self, judge: Judge, *, requests: str = "", limits: str = "") -> None:
        """Judge that validation refuses the pod."""
        answer = self.dry_run(requests=requests, limits=limits)
        judge(
            self._named(requests, limits),
            ok=isinstance(answer, Rejected) and answer.status == _INVALID,
            expected="rejected as invalid (422)",
            actual=self._format(answer),
            cause="an admission step changed the GPU amounts before the API server validated them"
            if answer
            else "something else than validation refused the pod first",
            hidden_because="the pod starts, with another number of GPUs than its author wrote",
            inspect=_REWRITERS,
        )

    def must_be_accepted(self, judge: Judge, *, limits: str, requested: str) -> None:
        """Judge that the pod is accepted and that its request is then ``requested``."""
        answer = self.dry_run(limits=limits)
        judge(
            self._named("", limits),
            ok=isinstance(answer, Accepted) and self._amounts(answer).get("requests") == requested,
            expected=f"accepted with request {requested}",
            actual=self._format(answer),
            cause=f"an admission step changed the {self.resource} request that defaulting copied",
            hidden_because="most manifests set the limit alone, as documented; all of them fail at once",
            inspect=_REWRITERS,
        )

    def _named(self, requests: str, limits: str) -> ObjectReference:
        asked = {"request": requests, "limit": limits}
        amounts = " and ".join(f"{part} {amount}" for part, amount in asked.items() if amount)
        return ObjectReference.scenario(f"pod with {self.resource} {amounts}")

    def _format(self, answer: Accepted | Rejected) -> str:
        if isinstance(answer, Rejected):
            return str(answer)
        amounts = self._amounts(answer)
        return f"accepted with request {amounts.get('requests', 'none')} and limit {amounts.get('limits', 'none')}"

    def _amounts(self, answer: Accepted) -> dict[str, str]:
        """The request and the limit of the pod as it was accepted."""
        resources = answer.object["spec"]["containers"][0].get("resources") or {}
        return {part: amounts[self.resource] for part, amounts in resources.items() if self.resource in (amounts or {})}
