"""Models of images and texts, small networks for the theory, and an autoencoder of sentences."""

from advtransfer.extras import require
from advtransfer.models.torchvision_ops import declare_missing_operators

require("experiments", "transformers")
declare_missing_operators()  # transformers imports torchvision where it is installed
