"""Entry point of the child; a module of its own, so that what `child` defines can be pickled by name."""

from __future__ import annotations

import sys
from pathlib import Path

from radiobject_assets.probe.child import main

if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
