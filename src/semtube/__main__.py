"""`python -m semtube`."""

import sys

from semtube.cli import main

sys.exit(main())
