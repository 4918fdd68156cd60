"""The commands that are typed after ``python -m advtransfer``."""
