"""Notebooks found, read, executed by papermill under strict rules, and exported."""

from advtransfer.extras import require

require("notebooks", "ipykernel", "jupytext", "nbclient", "nbconvert", "papermill", "yaml")
