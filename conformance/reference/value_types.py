"""The forms of names and values that a reference set-up may hold, each with the words an error uses for it."""

from typing import Annotated

from msgspec import Meta

# Forms and lengths: kubernetes.io, "Object Names and IDs" and "Labels and Selectors".
_PART = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_LABEL_PART = "[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?"

_LABEL_SAYS = "lower-case letters, digits and '-', at most 63, beginning and ending with a letter or digit"
_NAME_SAYS = "lower-case letters, digits, '-' and '.', at most 253, beginning and ending with a letter or digit"

NamespaceName = Annotated[str, Meta(pattern=f"^{_PART}$", max_length=63, extra={"says": _LABEL_SAYS})]
ObjectName = Annotated[str, Meta(pattern=f"^{_PART}(\\.{_PART})*$", max_length=253, extra={"says": _NAME_SAYS})]
# RBAC names may hold ':' as in system:node, and upper-case letters.
RbacName = Annotated[
    str, Meta(pattern="^[^/%]+$", max_length=253, extra={"says": "at least one character, no '/' and no '%'"})
]
LabelKey = Annotated[
    str,
    Meta(
        pattern=f"^({_PART}(\\.{_PART})*/)?{_LABEL_PART}$",
        max_length=317,
        extra={"says": "an optional DNS prefix and '/', then at most 63 letters, digits, '-', '_' and '.'"},
    ),
]
LabelValue = Annotated[
    str,
    Meta(
        pattern=f"^({_LABEL_PART})?$",
        max_length=63,
        extra={"says": "at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit"},
    ),
]
# The name of a set-up goes into a label of everything that deploying it makes.
SetupName = Annotated[
    str,
    Meta(
        pattern=f"^{_LABEL_PART}$",
        max_length=63,
        extra={"says": "1 to 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit"},
    ),
]
ResourceName = Annotated[
    str,
    Meta(
        pattern=f"^{_PART}(\\.{_PART})*/{_LABEL_PART}$",
        max_length=317,
        extra={"says": "the name of an extended resource, such as nvidia.com/gpu"},
    ),
]
# Kinds and API groups: kubernetes.io, "API Conventions".
Kind = Annotated[
    str,
    Meta(
        pattern="^[A-Z][A-Za-z0-9]*$",
        max_length=63,
        extra={"says": "a kind as manifests name it, such as Deployment, Job, PyTorchJob"},
    ),
]
ApiVersion = Annotated[
    str,
    Meta(
        pattern=f"^(({_PART}(\\.{_PART})*/)?v[0-9]+((alpha|beta)[0-9]+)?)?$",
        extra={"says": "an apiVersion as manifests name it, such as kubeflow.org/v1"},
    ),
]
# A person may write cpu: 4 without quotes; the API server takes both, so the loader turns numbers into text.
Amount = Annotated[
    str,
    Meta(
        pattern="^[0-9.]+([a-zA-Z]+[0-9]*)?$",
        extra={"says": "a quantity such as 8, 500m, 32Gi"},
    ),
]
Count = Annotated[int, Meta(ge=1)]
# User-defined classes end at one billion; the values above it belong to the system classes.
# Source: kubernetes.io, "Pod Priority and Preemption".
PriorityValue = Annotated[int, Meta(ge=-2_147_483_648, le=1_000_000_000)]
