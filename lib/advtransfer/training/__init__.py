"""Training: the loop that is shared, and its use for images, texts and trees."""

from advtransfer.extras import require

require("experiments", "tqdm")
