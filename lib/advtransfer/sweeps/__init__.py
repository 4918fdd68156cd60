"""Sweeps: many runs over a grid of parameters, computed in parallel and collected into tables."""
