"""``python -m advtransfer``."""

import sys

from advtransfer.commands.main import main

sys.exit(main())
