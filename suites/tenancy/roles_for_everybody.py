"""ClusterRoles that platforms give to everybody who is authenticated, and what RBAC lets everybody read.

Each platform binds its roles to group system:authenticated and binds them again when somebody takes the group out, so
that no owner can follow the advice to do so. They concern the platform's own API, where the platform checks further:
they are none of a team's permissions.
"""

from conformance.facts import Role, RoleBinding, Rule

# By name, with the domain of the API groups that the role is about.
# Source: https://github.com/openshift/openshift-apiserver/blob/0f9edf3f/pkg/bootstrappolicy/policy.go
# (GetOpenshiftBootstrapClusterRoleBindings); the roles of the console and of SecurityContextConstraints are bound by
# their own operators (openshift/console-operator, openshift/cluster-kube-apiserver-operator).
_OF_OPENSHIFT = dict.fromkeys(
    (
        "basic-user",
        "cluster-status",
        "console-extensions-reader",
        "helm-chartrepos-viewer",
        "self-access-reviewer",
        "system:build-strategy-docker",
        "system:build-strategy-jenkinspipeline",
        "system:build-strategy-source",
        # Bound in each project to the group of its service accounts (system:image-pullers).
        "system:image-puller",
        "system:oauth-token-deleter",
        "system:openshift:discovery",
        "system:openshift:public-info-viewer",
        "system:openshift:scc:restricted-v2",
        "system:openshift:scc:restricted-v3",
        # It narrows an impersonation that somebody may do already, and allows none.
        "system:scope-impersonation",
        "system:webhook",
    ),
    "openshift.io",
)
_FOR_EVERYBODY = {
    **_OF_OPENSHIFT,
    # Calico's API server asks for tier.networkpolicies instead, tier by tier: https://github.com/tigera/operator,
    # pkg/render/apiserver.go (TieredPolicyPassthruClusterRoleName).
    "calico-tiered-policy-passthrough": "projectcalico.org",
    # https://github.com/kubevirt/kubevirt, pkg/virt-operator/resource/generate/rbac/cluster.go
    "kubevirt.io:default": "kubevirt.io",
    # https://github.com/kubevirt/containerized-data-importer, pkg/operator/resources/cluster/rbac.go
    "cdi.kubevirt.io:config-reader": "kubevirt.io",
}

# Below which paths everybody may look: health, version and discovery, as the bootstrap policies of Kubernetes
# (plugin/pkg/auth/authorizer/rbac/bootstrappolicy/policy.go) and of OpenShift (above) have them.
_PUBLIC_PATHS = frozenset((
    "api", "apis", "healthz", "livez", "readyz", "openapi", "openid", "version", ".well-known",
    "oapi", "osapi", "swaggerapi", "swagger.json", "swagger-2.0.0.pb-v1",
))  # fmt: skip
_READS = frozenset(("get", "list", "watch"))
# What everybody may read of Kubernetes' own kinds (OpenShift's basic-user): names of roles and classes, no contents.
_PUBLIC_KINDS = frozenset(("clusterroles", "storageclasses", "volumesnapshotclasses", "clustertrustbundles"))


def is_for_everybody(binding: RoleBinding, role: Role) -> bool:
    """Whether a platform gives a role to everybody, and the role still is about that platform's own API alone."""
    domain = _FOR_EVERYBODY.get(role.name)
    if domain is None or any(subject.kind != "Group" for subject in binding.subjects):
        return False
    return all(is_public(rule) or _is_about(rule, domain) for rule in role.rules)


def is_public(rule: Rule) -> bool:
    """Whether a rule only allows to read public information and to review one's own access."""
    verbs = set(rule.verbs)
    if rule.non_resource_urls:
        return verbs <= {"get", "head"} and all(map(_is_public_path, rule.non_resource_urls))
    if set(rule.resources) == {"clustertrustbundles"} and set(rule.api_groups) == {"certificates.k8s.io"}:
        # The certificates of public authorities, meant to be read by everybody who has to trust them.
        return verbs <= _READS
    return verbs <= {"create"} and all(each.startswith("selfsubject") for each in rule.resources)


def _is_about(rule: Rule, domain: str) -> bool:
    """Whether a rule is about a platform's API groups, OpenShift's former names in the core group among them."""
    if rule.non_resource_urls:
        return False
    if set(rule.resources) <= _PUBLIC_KINDS:
        return set(rule.verbs) <= _READS
    own = [group for group in rule.api_groups if group == domain or group.endswith(f".{domain}")]
    scopes = bool(rule.resources) and all(
        each == f"userextras/scopes.authorization.{domain}" for each in rule.resources
    )
    return scopes or (bool(own) and set(rule.api_groups) - set(own) <= {""})


def _is_public_path(path: str) -> bool:
    first = path.removeprefix("/").partition("/")[0]
    return first in _PUBLIC_PATHS or path == "/"
