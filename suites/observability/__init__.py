"""Observability: dcgm-exporter reports every GPU, with values that are possible and the names of the pods on it."""
