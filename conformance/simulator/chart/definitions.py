"""The custom resources that the charts bring along, with as much of their schemas as an API server acts upon.

Everything that the full schemas merely describe is kept as it is given; what they refuse is refused here, too.
Sources: NVIDIA/gpu-operator v26.7.0, deployments/gpu-operator/crds; node-feature-discovery 0.19.0, nfd-api-crds.yaml.
"""

from collections.abc import Sequence
from typing import Any

from conformance.simulator.chart.objects import Object, named

_OPEN = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
_AGE = {"jsonPath": ".metadata.creationTimestamp", "name": "Age", "type": "date"}
_STATE = {"jsonPath": ".status.state", "name": "Status", "type": "string"}


def of_operator() -> list[Object]:
    """ClusterPolicy, GPUCluster, NVIDIADriver, and the compute domains of the DRA driver."""
    return [_cluster_policy(), _gpu_cluster(), _nvidia_driver(), *of_dra_driver()]


def of_dra_driver() -> list[Object]:
    """ComputeDomain and ComputeDomainClique."""
    group, version = "resource.nvidia.com", "v1beta1"
    return [
        _definition(group, version, "ComputeDomain", "computedomains", _root(), namespaced=True),
        _definition(group, version, "ComputeDomainClique", "computedomaincliques", _root(), namespaced=True),
    ]


def of_feature_discovery() -> list[Object]:
    """NodeFeature, NodeFeatureRule and NodeFeatureGroup."""
    group, version = "nfd.k8s-sigs.io", "v1alpha1"
    return [
        _definition(group, version, "NodeFeature", "nodefeatures", _root(), namespaced=True, status=False),
        _definition(group, version, "NodeFeatureRule", "nodefeaturerules", _root(), short=("nfr",), status=False),
        _definition(group, version, "NodeFeatureGroup", "nodefeaturegroups", _root(), namespaced=True, short=("nfg",)),
    ]


def _cluster_policy() -> Object:
    spec = _having(
        daemonsets=_having(updateStrategy=_one_of("RollingUpdate", "OnDelete")),
        driver=_having(kernelModuleType=_one_of("auto", "open", "proprietary")),
        mig=_having(strategy=_one_of("none", "single", "mixed")),
        # The operator knows no other layout than this one for nodes that choose none.
        migManager=_having(config=_having(default=_one_of("all-disabled", ""))),
        sandboxWorkloads=_having(defaultWorkload=_one_of("container", "vm-passthrough", "vm-vgpu")),
    )
    schema = _root(spec, _status("ignored", "ready", "notReady"))
    return _definition("nvidia.com", "v1", "ClusterPolicy", "clusterpolicies", schema, columns=(_STATE, _AGE))


def _gpu_cluster() -> Object:
    spec = {**_having(draDriver=_OPEN), "required": ["draDriver"]}
    schema = _root(spec, _status("ready", "notReady", "disabled"))
    schema["x-kubernetes-validations"] = [
        {
            "rule": "self.metadata.name == 'gpu-cluster'",
            "message": "GPUCluster is a singleton, metadata.name must be 'gpu-cluster'",
        }
    ]
    columns = (_STATE, _AGE)
    return _definition("nvidia.com", "v1alpha1", "GPUCluster", "gpuclusters", schema, short=("gc",), columns=columns)


def _nvidia_driver() -> Object:
    fixed = [{"rule": "self == oldSelf", "message": "this field cannot be changed: create a new NVIDIADriver instead"}]
    spec = _having(
        default={"type": "boolean"},
        nodeSelector={"type": "object", "additionalProperties": {"type": "string"}},
        driverType={**_one_of("gpu", "vgpu", "vgpu-host-manager"), "x-kubernetes-validations": fixed},
        usePrecompiled={"type": "boolean", "x-kubernetes-validations": fixed},
        kernelModuleType=_one_of("auto", "open", "proprietary"),
    )
    spec["x-kubernetes-validations"] = [
        {
            "rule": "!(has(self.default) && self.default) || !has(self.nodeSelector) || size(self.nodeSelector) == 0",
            "message": "the default NVIDIADriver is for all nodes and takes no nodeSelector",
        }
    ]
    schema = _root(spec, _status("ignored", "ready", "notReady", "disabled"))
    short, columns = ("nvd", "nvdriver", "nvdrivers"), (_STATE, _AGE)
    return _definition("nvidia.com", "v1alpha1", "NVIDIADriver", "nvidiadrivers", schema, short=short, columns=columns)


def _root(spec: Object | None = None, status: Object | None = None) -> Object:
    properties = {"spec": spec or _OPEN, "status": status or _OPEN, "metadata": {"type": "object"}}
    # The root itself is open as well: a kind may hold more than spec and status.
    return {**_OPEN, "properties": properties}


def _having(**properties: Object) -> Object:
    return {**_OPEN, "properties": properties}


def _one_of(*words: str) -> Object:
    return {"type": "string", "enum": list(words)}


def _status(*states: str) -> Object:
    return {**_having(state=_one_of(*states)), "required": ["state"]}


def _definition(
    group: str,
    version: str,
    kind: str,
    plural: str,
    schema: Object,
    *,
    namespaced: bool = False,
    short: Sequence[str] = (),
    columns: Sequence[Object] = (),
    status: bool = True,
) -> Object:
    served: dict[str, Any] = {
        "name": version,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}} if status else {},
    }
    if columns:
        served["additionalPrinterColumns"] = list(columns)
    names: Object = {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": kind.lower()}
    if short:
        names["shortNames"] = list(short)
    scope = "Namespaced" if namespaced else "Cluster"
    spec = {"group": group, "names": names, "scope": scope, "versions": [served]}
    return named("CustomResourceDefinition", "apiextensions.k8s.io/v1", f"{plural}.{group}", spec=spec)
