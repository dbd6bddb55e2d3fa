"""Plots of training curves, confusions, layer weights and probes."""
