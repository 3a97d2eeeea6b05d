"""The suites: what a cluster must do to run GPU workloads the way its owners declared.

Each folder is one profile and reads as a chapter of a specification, with its helpers beside it; what two profiles need
is in ``_shared``. Each test function is one requirement with a stable id. Expectations come from the reference set-up,
never from the node, pod or object that is being judged. Reading requirements walk the facts and judge every subject
once; scenarios act through the lab, which undoes whatever it did. A suite cannot know whether the cluster is real
or simulated.
"""
