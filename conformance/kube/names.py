"""The names by which everything that a run creates can be told from everything else."""

import re

DOMAIN = "gpu-conformance.io"
RUN_LABEL = f"{DOMAIN}/run-id"
REFERENCE_LABEL = f"{DOMAIN}/reference"
MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGED_BY_US = "gpu-conformance"
FIELD_MANAGER = "gpu-conformance"
SIMULATED_GPUS = f"{DOMAIN}/simulated-gpus"
"""The label of nodes whose GPUs are simulated, and of what simulates them."""
# Where owner records and Leases live. It outlives a run, so it is never named after one.
HOME_NAMESPACE = "gpu-conformance"

_RUN_ID = re.compile(r"[a-z][a-z0-9]{7}")


def is_run_id(text: str) -> bool:
    """Whether ``text`` has the form of a run id: 8 characters of a-z and 0-9, the first one a letter."""
    return _RUN_ID.fullmatch(text) is not None


def own_prefix(run_id: str) -> str:
    """How the names of a run's namespaces and cluster-scoped objects start.

    Raises ValueError for what is no run id: a shorter prefix would also cover the objects of other runs.
    """
    if not is_run_id(run_id):
        raise ValueError(f"{run_id!r} is no run id: 8 characters of a-z and 0-9, the first one a letter")
    return f"gpuc-{run_id}-"
