"""The public names of training, and where they come from: `__init__.py` imports each on its first use."""

from .cache.build import (
    PatchCacheInfo as PatchCacheInfo,
    build_patch_cache as build_patch_cache,
)
from .cache.cache_reading import (
    Patch as Patch,
    PatchBatch as PatchBatch,
    PatchCache as PatchCache,
)
from .cache.current import (
    current_cache as current_cache,
)
from .cache.patch_batches import (
    PatchCacheDataset as PatchCacheDataset,
    PatchLoader as PatchLoader,
    patch_loader as patch_loader,
)
from .cache.verify import (
    CacheProblem as CacheProblem,
    compare_digests as compare_digests,
    verify_patch_cache as verify_patch_cache,
)
from .pairing import (
    LeftOut as LeftOut,
    LeftOutReason as LeftOutReason,
)
from .split_assignment import (
    assign_splits as assign_splits,
)
from .split_leakage import (
    find_leakage as find_leakage,
)
from .volumes.label_values import (
    LabelSource as LabelSource,
)
from .volumes.loaders import (
    create_distributed_dataloader as create_distributed_dataloader,
    create_inference_dataloader as create_inference_dataloader,
    create_segmentation_dataloader as create_segmentation_dataloader,
    create_training_dataloader as create_training_dataloader,
    create_validation_dataloader as create_validation_dataloader,
    set_epoch as set_epoch,
)
from .volumes.loading import (
    DatasetConfig as DatasetConfig,
    LoadingMode as LoadingMode,
)
from .volumes.segmentation_dataset import (
    SegmentationDataset as SegmentationDataset,
)
from .volumes.torchio_subjects import (
    VolumeCollectionSubjectsDataset as VolumeCollectionSubjectsDataset,
)
from .volumes.volume_dataset import (
    VolumeCollectionDataset as VolumeCollectionDataset,
)
