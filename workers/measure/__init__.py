"""Latency and size, before and after in one run."""
