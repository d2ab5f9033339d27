"""Every benchmark at full size, more repeats of each: `python -m bench [NAME...]`, or `make bench`.

How long before the first decline the alerts come is a benchmark of its own: `make bench-leadtime`.
"""

import sys

from bench.harness import FULL
from bench.smoke import main

if __name__ == "__main__":
    main(FULL, tuple(sys.argv[1:]))
