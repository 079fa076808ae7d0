"""What the containers are made of, checked and run without a container engine."""
