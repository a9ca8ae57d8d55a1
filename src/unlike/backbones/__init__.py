"""Backbones: pretrained networks as sources of frozen features, run by the fastest runtime at hand, in a cache of networks."""
