"""A data set described in one file, `dataset.yaml`: its keys, its layouts, its mistakes."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
