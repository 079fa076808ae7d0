"""File formats that users deploy."""
