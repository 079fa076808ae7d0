"""Targets that only exporting or timing can tell: the cut that reaches so many bytes or ms."""
