"""The experiments of the paper: each module has a Config and a pure function run(config) -> Record."""

from advtransfer.extras import require

require("experiments", "pandas", "pydantic")
