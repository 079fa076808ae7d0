"""Use cases. Rules live here; routes and tasks are doorways to them."""
