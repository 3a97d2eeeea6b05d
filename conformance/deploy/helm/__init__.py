"""Helm: the charts of a declared GPU stack, their releases and values, and the helm program that installs them."""
