"""Training: architectures, losses, data, fitting."""
