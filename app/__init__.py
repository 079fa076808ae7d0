"""Secateur's API and everything both sides agree on; runs without TensorFlow."""
