"""DRA: GPUs allocated by ResourceClaims instead of counted resources.

Reading order: what the driver publishes (ResourceSlices, DeviceClasses), then claims: those that are there, the quotas
that count them, and what becomes of new ones.
"""
