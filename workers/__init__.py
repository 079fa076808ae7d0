"""Secateur's workers: the only place where Keras exists."""
