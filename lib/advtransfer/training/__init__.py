"""Training: one shared loop, and its use for images, texts and trees."""

from advtransfer.extras import require

require("experiments", "tqdm")
