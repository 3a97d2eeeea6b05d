"""A simulated device plugin: it speaks the kubelet's device plugin API; the GPUs behind it are an annotation's.

Devices, identities and what is broken are those of the simulator (conformance/simulator), which plays the same for
nodes without a kubelet. Needs the extra ``device-plugin`` (grpcio, protobuf); api/ has the messages.
"""
