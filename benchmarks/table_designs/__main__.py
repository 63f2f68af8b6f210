"""`python -m benchmarks.table_designs`. Processes that are forked import this again, so it holds nothing."""

import sys

from benchmarks.table_designs.everything import main

if __name__ == "__main__":
    sys.exit(main())
