"""HTTP: one router per resource. A route is one line of meaning."""
