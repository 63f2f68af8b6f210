"""From a store to training batches: splits, the patch cache, and loaders for PyTorch, MONAI and TorchIO.

Two ways lead to batches:

- *The patch cache* (`build_patch_cache`, then `patch_loader`): patches are cut once and memory-mapped. The
  way to train, at the speed of memory.
- *Straight from volumes* (`create_training_dataloader` and its siblings): no preparation, other patches every
  epoch, for exploring, validation and inference on whole volumes.

Importing this package imports neither torch nor torchio: names that need them load them on first use.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
