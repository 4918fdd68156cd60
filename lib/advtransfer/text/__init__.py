"""Attacks on texts: word by word, and on whole sentences."""

from advtransfer.extras import require

require("experiments", "transformers")
