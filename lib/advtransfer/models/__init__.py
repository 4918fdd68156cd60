"""Models: things with weights."""
