"""Pods that ask for what chance has them ask for, of everything that kube-scheduler's filters look at."""

import random
from fractions import Fraction
from typing import Any

from conformance.gpu.quantities import quantity

Object = dict[str, Any]

KEYS, VALUES = ("zone", "kind", "rank"), ("a", "b", "7", "12", "3")
EFFECTS = ("NoSchedule", "NoExecute", "PreferNoSchedule")
ZONE, HOST = "topology.kubernetes.io/zone", "kubernetes.io/hostname"
GROUPS, TENANTS = ("a", "b", "c", "d"), ("team-a", "team-b", "team-c")
OVERHEAD = {"cpu": "250m", "memory": "512Mi"}
HEAVY = {"kind": "RuntimeClass", "metadata": {"name": "heavy"}, "handler": "heavy", "overhead": {"podFixed": OVERHEAD}}
NUMBERS = ("9", "7", "3", "4", "11")
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def node_labels(chance: random.Random) -> Object:
    """Labels of a node, None for one that it loses."""
    zone = {ZONE: chance.choice(("a", "b", "c")) if chance.random() < 0.9 else None}
    return zone | {key: chance.choice(VALUES) if chance.random() < 0.8 else None for key in KEYS}


def node_taints(chance: random.Random) -> list[Object]:
    """Taints of a node, of which most have none."""
    every = [{"key": key, "value": chance.choice(VALUES), "effect": chance.choice(EFFECTS)} for key in KEYS]
    return [taint for taint in every if chance.random() < 0.2]


def node_amounts(chance: random.Random) -> Object:
    """What a node has to give."""
    return {
        "cpu": "16",
        "memory": "64Gi",
        "pods": chance.choice(("3", "20", "110")),
        "ephemeral-storage": chance.choice(("10Gi", "100Gi")),
        "hugepages-2Mi": chance.choice(("0", "64Mi")),
        "nvidia.com/gpu": chance.choice(("0", "2", "4")),
    }


def alone(name: str, node: str, chance: random.Random) -> Object:
    """A pod for one node, which is judged by the node and by what is on it."""
    spec = _with_containers(chance)
    spec["affinity"] = {"nodeAffinity": {_REQUIRED: {"nodeSelectorTerms": _terms_for(node, chance)}}}
    if chance.random() < 0.75:
        spec["tolerations"] = [_toleration(chance) for _ in range(chance.choice((1, 2, 3)))]
    if chance.random() < 0.2:
        spec["nodeSelector"] = {chance.choice(KEYS): chance.choice(VALUES)}
    if chance.random() < 0.15:
        spec |= {"runtimeClassName": "heavy", "overhead": OVERHEAD}
    if chance.random() < 0.05:
        spec["schedulingGates"] = [{"name": "example.com/wait"}]
    return {"metadata": {"name": name, "annotations": {"meant": node}}, "spec": spec}


def with_neighbours(name: str, node: str | None, chance: random.Random) -> Object:
    """A pod for one node, or for any, with rules about the pods that are there already."""
    container: Object = {"name": "main", "image": "i"}
    spec: Object = {"containers": [container], "terminationGracePeriodSeconds": 0}
    affinity: Object = {}
    if node is not None:
        pinned = [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}]
        affinity["nodeAffinity"] = {_REQUIRED: {"nodeSelectorTerms": pinned}}
    elif chance.random() < 0.4:
        spec["nodeSelector"] = {chance.choice(KEYS): chance.choice(VALUES)}
    for which, often in (("podAffinity", 0.3), ("podAntiAffinity", 0.25)):
        if chance.random() < often:
            affinity[which] = {_REQUIRED: [_pod_term(chance) for _ in range(chance.choice((1, 1, 2)))]}
    if affinity:
        spec["affinity"] = affinity
    if chance.random() < 0.5:
        keys = chance.sample((ZONE, HOST, "kind"), chance.choice((1, 1, 2)))
        spec["topologySpreadConstraints"] = [_spread(key, chance) for key in keys]
    if chance.random() < 0.7:
        spec["tolerations"] = [{"operator": "Exists"}]
    if chance.random() < 0.15:
        container["ports"] = [_port(chance)]
    labels = {"group": chance.choice(GROUPS), "tier": chance.choice(("x", "y"))}
    if chance.random() < 0.8:
        labels["version"] = chance.choice(("1", "2"))
    return {"metadata": {"name": name, "labels": labels}, "spec": spec}


def _with_containers(chance: random.Random) -> Object:
    main: Object = {"name": "main", "image": "i", "resources": _resources(chance, gpus=True)}
    spec: Object = {"containers": [main], "terminationGracePeriodSeconds": 0}
    if chance.random() < 0.15:
        main["ports"] = _ports(chance, chance.choice((1, 2)))
    if chance.random() < 0.35:
        spec["initContainers"] = [_init(at, chance) for at in range(chance.choice((1, 2, 3)))]
    if chance.random() < 0.2:
        spec["containers"].append({"name": "beside", "image": "i", "resources": _resources(chance, gpus=False)})
    every = [*spec["containers"], *spec.get("initContainers", ())]
    huge = any("hugepages-2Mi" in each["resources"].get("limits", {}) for each in every)
    if chance.random() < 0.2 and not huge:
        # Admission wants of a pod's own no less than its containers ask for together.
        own = {"cpu": chance.choice(("30", "15500m")), "memory": "60Gi"}
        if all(_together(every, name) <= quantity(amount) for name, amount in own.items()):
            spec["resources"] = {"requests": own}
    return spec


def _together(containers: list[Object], name: str) -> Fraction:
    """The most that containers may ask for, should they all run at once."""
    asked = (each["resources"].get("requests", {}).get(name, "0") for each in containers)
    return sum(map(quantity, asked), Fraction(0))


def _init(at: int, chance: random.Random) -> Object:
    made: Object = {"name": f"init-{at}", "image": "i", "resources": _resources(chance, gpus=chance.random() < 0.3)}
    if chance.random() < 0.4:
        made["restartPolicy"] = "Always"
    if chance.random() < 0.1:
        made["ports"] = [_port(chance)]
    return made


def _resources(chance: random.Random, *, gpus: bool) -> Object:
    requests: Object = {}
    limits: Object = {}
    if chance.random() < 0.8:
        requests["cpu"] = chance.choice(("100m", "1", "1500m", "4", "9", "16", "17"))
    if chance.random() < 0.5:
        requests["memory"] = chance.choice(("64Mi", "1Gi", "16Gi", "0.5Gi", "1e9", "33e9"))
    if chance.random() < 0.15:
        requests["ephemeral-storage"] = chance.choice(("1Gi", "9Gi", "20Gi"))
    if gpus and (number := chance.choice((0, 0, 0, 1, 2, 3))):
        limits["nvidia.com/gpu"] = str(number)
    if chance.random() < 0.08:
        limits["hugepages-2Mi"] = chance.choice(("32Mi", "64Mi", "66Mi"))
        requests.setdefault("cpu", "100m")
    return {"requests": requests, "limits": limits}


def _ports(chance: random.Random, most: int) -> list[Object]:
    """Ports of one container, of which a pod states none twice."""
    drawn = [_port(chance) for _ in range(most)]
    return list({(each["protocol"], each.get("hostIP"), each["hostPort"]): each for each in drawn}.values())


def _port(chance: random.Random) -> Object:
    found: Object = {"containerPort": 80, "hostPort": chance.choice((8080, 9400, 9401))}
    found["protocol"] = chance.choice(("TCP", "UDP", "SCTP"))
    return found | ({"hostIP": chance.choice(("10.0.0.1", "127.0.0.1", "0.0.0.0"))} if chance.random() < 0.5 else {})


def _terms_for(node: str, chance: random.Random) -> list[Object]:
    """Terms of which each is for the node at most; one may be for no node at all, or for all but one."""
    pinned: Object = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    if chance.random() < 0.35:
        pinned["matchExpressions"] = [_expression(chance) for _ in range(chance.choice((1, 1, 2)))]
    others: list[Object] = []
    if chance.random() < 0.15:
        fields = [{"key": "metadata.name", "operator": "In", "values": [node]}]
        others.append({"matchFields": fields, "matchExpressions": [_expression(chance)]})
    if chance.random() < 0.1:
        nowhere = [{"key": "metadata.name", "operator": "In", "values": ["no-such-node"]}]
        others.append({"matchFields": nowhere})
    if chance.random() < 0.1:
        others.append({})
    terms = [pinned, *others]
    chance.shuffle(terms)
    return terms


def _expression(chance: random.Random) -> Object:
    operator = chance.choice(("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"))
    if operator in ("Gt", "Lt"):
        return {"key": chance.choice(KEYS), "operator": operator, "values": [chance.choice(NUMBERS)]}
    many = {"In": 2, "NotIn": 1}.get(operator, 0)
    drawn = [chance.choice(VALUES) for _ in range(many)]
    return {"key": chance.choice(KEYS), "operator": operator, **({"values": drawn} if drawn else {})}


def _toleration(chance: random.Random) -> Object:
    found: Object
    drawn = chance.random()
    if drawn < 0.3:
        found = {"operator": "Exists"} | ({"key": chance.choice(KEYS)} if chance.random() < 0.6 else {})
    elif drawn < 0.55:
        found = {"key": chance.choice(KEYS), "operator": chance.choice(("Lt", "Gt")), "value": chance.choice(NUMBERS)}
    else:
        found = {"key": chance.choice(KEYS), "value": chance.choice(VALUES)}
        found |= {"operator": "Equal"} if chance.random() < 0.5 else {}
    return found | ({"effect": chance.choice(EFFECTS)} if chance.random() < 0.5 else {})


def _selector(chance: random.Random) -> Object:
    if chance.random() < 0.6:
        return {"matchLabels": {"group": chance.choice(GROUPS), "tier": chance.choice(("x", "y"))}}
    operator = chance.choice(("In", "In", "NotIn", "Exists", "DoesNotExist"))
    values = {"values": [chance.choice(GROUPS)]} if operator in ("In", "NotIn") else {}
    return {"matchExpressions": [{"key": chance.choice(("group", "version")), "operator": operator, **values}]}


def _pod_term(chance: random.Random) -> Object:
    term: Object = {"topologyKey": chance.choice((ZONE, HOST, HOST, "kind")), "labelSelector": _selector(chance)}
    if chance.random() < 0.05:
        del term["labelSelector"]
    elif chance.random() < 0.25:
        term[chance.choice(("matchLabelKeys", "mismatchLabelKeys"))] = ["version"]
        if any(each["key"] == "version" for each in term["labelSelector"].get("matchExpressions", ())):
            term["labelSelector"] = {"matchLabels": {"tier": "x"}}
    if chance.random() < 0.2:
        term["namespaces"] = sorted(chance.sample(TENANTS, 2))
    if chance.random() < 0.3:
        named = {"matchLabels": {"tenant": chance.choice(TENANTS)}}
        by_kind = {"matchExpressions": [{"key": "kind", "operator": "In", "values": [chance.choice(VALUES)]}]}
        term["namespaceSelector"] = chance.choice(({}, named, by_kind))
    return term


def _spread(key: str, chance: random.Random) -> Object:
    constraint: Object = {
        "topologyKey": key,
        "maxSkew": chance.choice((1, 2, 3)),
        "whenUnsatisfiable": "DoNotSchedule" if chance.random() < 0.9 else "ScheduleAnyway",
        "labelSelector": _selector(chance),
    }
    if chance.random() < 0.6:
        constraint["nodeAffinityPolicy"] = chance.choice(("Ignore", "Ignore", "Honor"))
    if chance.random() < 0.5:
        constraint["nodeTaintsPolicy"] = chance.choice(("Ignore", "Honor"))
    if chance.random() < 0.25 and constraint["whenUnsatisfiable"] == "DoNotSchedule":
        constraint["minDomains"] = chance.choice((2, 4, 5))
    if chance.random() < 0.3:
        constraint["labelSelector"] = {"matchLabels": {"tier": chance.choice(("x", "y"))}}
        constraint["matchLabelKeys"] = ["version"]
    return constraint
