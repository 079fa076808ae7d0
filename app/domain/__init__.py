"""Types and rules that the API and the workers share. Imports nothing else of Secateur."""
