"""What installing NVIDIA's charts with Helm creates, from the same values: the objects, without Helm and the charts.

Each function takes the values as one would give them to ``helm install -f`` and returns the objects in an order in
which they can be created. Values that are left out have the chart's default. Left out of the objects are roles and
their bindings: the simulated programs act as the simulator, which may do everything.

Sources: NVIDIA/gpu-operator v26.7.0, deployments/gpu-operator (with node-feature-discovery 0.19.0);
NVIDIA/k8s-device-plugin v0.20.0, deployments/helm/nvidia-device-plugin; kubernetes-sigs/dra-driver-nvidia-gpu v0.4.1,
deployments/helm/dra-driver-nvidia-gpu, and its predecessor nvidia-dra-driver-gpu v25.12.0.
"""

from conformance.simulator.chart.dra import dra_driver
from conformance.simulator.chart.objects import ChartError
from conformance.simulator.chart.operator import gpu_operator
from conformance.simulator.chart.plugin import device_plugin

__all__ = ["ChartError", "device_plugin", "dra_driver", "gpu_operator"]
