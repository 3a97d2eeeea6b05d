"""The simulated DRA driver of a node: it publishes the node's GPUs in a ResourceSlice and prepares claims of them.

It speaks to a real kubelet as NVIDIA's DRA driver does, under that driver's name. Sources: kubernetes.io, Dynamic
Resource Allocation; kubernetes/kubelet, pkg/apis/dra/v1 and pkg/apis/pluginregistration/v1.
"""
