"""`python -m cricavpr`, as torchrun starts it: the door by another name."""

import sys

from cricavpr.cli import main

if __name__ == "__main__":
    sys.exit(main())
