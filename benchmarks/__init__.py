"""Benchmarks: how fast this machine does federated learning."""
