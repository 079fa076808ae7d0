"""Secateur's engine beside Torch-Pruning, on networks that both frameworks have."""
