"""``python -m advtransfer``."""

import sys

from advtransfer.cli import main

sys.exit(main())
