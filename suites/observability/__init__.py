"""Observability: dcgm-exporter reports every GPU, with plausible values and the names of its pods."""
