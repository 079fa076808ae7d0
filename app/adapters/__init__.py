"""The outside world: database, store, queue."""
