"""The commands: options made from the pipeline's settings, and what they print."""
