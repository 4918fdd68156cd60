"""Many runs: a grid of parameters, computed by whoever can, and collected."""
