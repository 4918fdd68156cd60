"""What the pages of the book show: functions from records to tables, figures and verdicts, a module a page."""

from advtransfer.extras import require

require("notebooks", "IPython", "matplotlib", "myst_nb", "seaborn", "tabulate")
