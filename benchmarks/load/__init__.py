"""How much the service bears: many jobs, many clients, many rows."""
