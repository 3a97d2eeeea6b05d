"""DRA: GPUs allocated by ResourceClaims instead of counted resources.

Reading order: what the driver publishes (ResourceSlices, DeviceClasses), then ResourceClaims: the existing ones, the
quotas that count them, and new ones; then ComputeDomains, for memory that is shared across nodes.
"""
