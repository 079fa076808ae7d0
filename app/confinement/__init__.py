"""Mechanisms of the kernel that hold a process back, by ctypes: each in a module of its own."""
