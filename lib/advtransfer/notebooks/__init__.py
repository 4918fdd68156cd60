"""Find notebooks, read them, execute them by papermill under strict rules, and export them."""

from advtransfer.extras import require

require("notebooks", "ipykernel", "jupytext", "nbclient", "nbconvert", "papermill", "yaml")
