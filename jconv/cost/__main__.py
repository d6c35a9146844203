"""`python -m jconv.cost`: see `jconv.cost.cli`."""

import sys

from jconv.cost.cli import main

if __name__ == "__main__":
    sys.exit(main())
