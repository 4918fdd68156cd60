"""Models of images and texts, small networks for the theory, and an autoencoder of sentences."""

from advtransfer.models.torchvision_ops import declare_missing_operators

declare_missing_operators()  # transformers imports torchvision where it is installed
