"""From raw images to committed volumes: plan, decode under a memory budget, commit, quarantine.

The names here are imported when they are first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
