"""Fine-tuning: data, objective, the epoch loop, checkpoints."""
