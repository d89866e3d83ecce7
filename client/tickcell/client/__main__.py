"""`python -m tickcell.client` is the command `tickcell`."""

import sys

from tickcell.client import cli

sys.exit(cli.main())
