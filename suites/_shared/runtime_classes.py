"""RuntimeClasses: what helps where one that pods name is not there."""

from conformance.reference.model import Reference


def create_the_class(reference: Reference, name: str) -> str:
    """The remedy where the stack needs the missing class; empty, for the requirement's own, where it needs none.

    Without the class that k3s' pods name, a pod would start and find no driver.
    """
    if reference.stack is None or reference.stack.runtime_class != name:
        return ""
    return (
        f"Create RuntimeClass {name} with the handler that the node's runtime has for NVIDIA: pods without it find no "
        "driver, so that dropping runtimeClassName does not help."
    )
