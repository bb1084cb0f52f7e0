"""emuloss: turn any non-differentiable metric of a 2-D field into a training loss."""
