"""Records of runs: parameters, results, trained weights, where they come from, and the files that hold them."""

from advtransfer.extras import require

require("experiments", "filelock", "grimp", "pandas", "platformdirs", "pydantic", "safetensors")
