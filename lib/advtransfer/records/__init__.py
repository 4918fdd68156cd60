"""Runs kept: their parameters, results, weights and origin, and the files that hold them."""

from advtransfer.extras import require

require("experiments", "filelock", "grimp", "pandas", "platformdirs", "pydantic", "safetensors")
