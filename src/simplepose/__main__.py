"""`python -m simplepose`."""

import sys

from simplepose.cli import main

sys.exit(main())
