"""Every kind of finding about a loader, once: what `probe` names."""

from __future__ import annotations

from radiobject_assets.diagnostics.findings import Kind, Mend, Severity

_ERROR, _WARN = Severity.ERROR, Severity.WARN


def _kind(code: str, problem: str, why: str, action: str, severity: Severity = _ERROR) -> Kind:
    return Kind(f"loader_{code}", severity, problem, why, Mend(action, is_safe=True))


_STOPS = "Training stops when it comes to this item, which in a shuffled order may be hours into an epoch."

FACTORY_FAILS = _kind(
    "factory_fails",
    "the loader can't be made",
    "Nothing of it can be looked at.",
    "See the traceback in the report; put right what it names, and probe again.",
)
ITEM_MISSING = _kind(
    "item_missing",
    "a file that an item names is not there, or empty",
    _STOPS,
    "Put the file back, or take it out of the list.",
)
ITEM_UNREADABLE = _kind(
    "item_unreadable",
    "an item can't be read, before any transform",
    _STOPS,
    "Look at the file of this item (the traceback in the report names it): fetch it again from its "
    "source, or "
    "leave the item out.",
)
CACHE_UNREADABLE = _kind(
    "cache_unreadable",
    "a patch cache can't be opened, or not be read",
    "Nothing can be trained from it.",
    "Delete the folder of the cache and build it again: it is made from the store alone.",
)
STORE_UNREADABLE = _kind(
    "store_unreadable",
    "a store can't be opened",
    "Nothing can be trained from it.",
    "See what the traceback says; `radiobject-assets describe` shows what the store holds.",
)
ITEM_NOT_FINITE = _kind(
    "item_not_finite",
    "an item holds NaN or infinity as it is read",
    "One such voxel in a batch makes the loss NaN, and every weight after it.",
    "Look at the image. If the values mean `outside`, replace them as the first transform; else leave "
    "the item "
    "out.",
)
TRANSFORM_NOT_FINITE = _kind(
    "transform_not_finite",
    "a transform makes NaN or infinity out of finite values",
    "One such voxel in a batch makes the loss NaN, and every weight after it. Mostly something is "
    "divided by "
    "the spread of an image that has none.",
    "Guard the division (a constant image, an empty mask) in this transform, or leave such items out.",
)
TRANSFORM_FAILS = _kind(
    "transform_fails",
    "a transform fails",
    _STOPS,
    "The evidence says whether it fails at every item (then the transform does not fit the data) or at "
    "some "
    "(then they differ from the rest: their shapes are in the report).",
)
TRANSFORM_CHANNELS = _kind(
    "transform_channels",
    "a transform expects another number of channels, or another shape",
    "It fails at the first batch: most transforms for photographs expect three channels, and images of "
    "radiology have one.",
    "Give this transform one channel (a mean and spread for each channel that there is), add the channel "
    "axis "
    "before it, or repeat the channel.",
)
ITEMS_RAGGED = _kind(
    "items_ragged",
    "items of different shapes are to be put into one batch",
    "Collate stacks items, so that a batch with two shapes fails; which batch that is depends on the order.",
    "Crop, pad or resample to one shape as the last transform, use patches, use `batch_size=1`, or a "
    "collate "
    "function that pads (MONAI's `pad_list_data_collate`).",
)
COLLATE_FAILS = _kind(
    "collate_fails",
    "items can't be put together to a batch",
    "Every batch, or every batch with such an item, fails.",
    "Have the data set return tensors, arrays, numbers and texts (no None), or give a `collate_fn` for the "
    "rest.",
)
ERROR_NOT_PICKLABLE = _kind(
    "error_not_picklable",
    "a worker raises an exception that can't be handed to the main process",
    "PyTorch sends the exception's class by its name. Where it has none that can be imported, the worker's "
    "message is lost and the loader waits for ever, without a word.",
    "Define the exception's class at the top of a module. What it wanted to say is in this report, as a "
    "finding of its own.",
)
BATCH_NOT_PICKLABLE = _kind(
    "batch_not_picklable",
    "a batch can't be handed from a worker to the main process",
    "The worker drops it and the loader waits for ever: the error stands only on the worker's stderr.",
    "Return tensors, arrays, numbers and texts from the data set: no open files, functions or readers.",
)
NOT_PICKLABLE = _kind(
    "not_picklable",
    "the data set can't be handed to workers that are started anew",
    "Under `spawn` and `forkserver` a worker gets a pickled copy of the data set, its transforms and the "
    "collate function; lambdas, open files and readers can't be pickled.",
    "Use functions of a module (or `functools.partial`) in the place of lambdas, and open files and "
    "readers in "
    "the worker, on first use.",
)
WORKER_EXITS = _kind(
    "worker_exits",
    "a worker ends by itself, without an exception",
    "Something calls `os._exit` or `sys.exit`, or a library ends its process: the main process only learns "
    "that the worker is gone.",
    "Look at what runs at the place that the evidence names: a library that ends the process at a missing "
    "licence, device or file does this.",
)
CRASH = _kind(
    "crash",
    "native code crashes the process",
    "A segmentation fault, a failed assertion or an illegal instruction can't be caught in Python: the "
    "worker "
    "dies, and with it the epoch.",
    "The stack in the report ends in the call that crashed. Give that library other data (does the item "
    "read "
    "with another one?), another version, or one thread.",
)
MEMORY = _kind(
    "memory",
    "the loader takes more memory than there is",
    "The kernel then kills a process, mostly a worker: all that training learns is `killed by signal`.",
    "Fewer workers or a smaller `prefetch_factor` if it is the sum; patches or streaming in the place of "
    "whole "
    "volumes if one item alone is too large; if memory grows from item to item, something is kept: clear "
    "that.",
)
SHARED_MEMORY = _kind(
    "shared_memory",
    "/dev/shm is full",
    "Workers hand batches over through /dev/shm; where it is full they die of SIGBUS or can't write. "
    "Containers have 64 MB of it unless told otherwise.",
    "Give the container more (`docker run --shm-size=8g`, an emptyDir of medium Memory in Kubernetes), "
    "or use "
    "fewer workers, a smaller `prefetch_factor` or smaller batches.",
)
OPEN_FILES = _kind(
    "open_files",
    "too many open files",
    "A process may have so many open files and no more; tensors in flight between workers count too.",
    "If the number grows from item to item (the evidence says so), close what the data set opens. Else "
    "raise "
    "the limit (`ulimit -n`), or call `torch.multiprocessing.set_sharing_strategy('file_system')`.",
)
OPEN_FILES_GROW = _kind(
    "open_files_grow",
    "each item leaves files open",
    "A long epoch ends with `Too many open files`.",
    "Close what the data set opens (`with open(...)`).",
    _WARN,
)
FORK_DEADLOCK = _kind(
    "fork_deadlock",
    "workers that are forked wait for a lock for ever",
    "A forked worker inherits every lock as it is, and none of the threads that would release it. The main "
    "process had other threads when the workers were forked.",
    "Set `multiprocessing_context='forkserver'` (or `spawn`) on the DataLoader; or start the threads after "
    "the workers.",
)
NOT_FORK_SAFE = _kind(
    "not_fork_safe",
    "it fails in workers that are forked, and not in those that are started anew",
    "A library or handle that was used before the fork is not usable after it: contexts of GPUs, "
    "connections, "
    "file offsets, thread pools.",
    "Set `multiprocessing_context='forkserver'` (or `spawn`) on the DataLoader; or open the handle in the "
    "worker, on first use.",
)
WRONG_IN_WORKERS = _kind(
    "wrong_in_workers",
    "workers read other values than one process does",
    "Training learns from something that is in no image. Mostly forked workers share an open file, and one "
    "moves the place at which the other reads.",
    "Open files and readers in the worker, on first use; or set `multiprocessing_context='forkserver'`.",
)
ITEM_SILENT = _kind(
    "item_silent",
    "an item takes longer than the limit, in one process too",
    "Training waits for it, and looks as if it hung.",
    "The stack in the report shows what it waits for: a file system that hangs, a download, a lock, or "
    "far too "
    "much to compute.",
)
ITEM_SLOW = _kind(
    "item_slow",
    "an item takes far longer than the others",
    "Training waits for the slowest item of each batch.",
    "Look at this item: its size, its file, or the transform that the evidence names.",
    _WARN,
)
TWO_WORKERS = _kind(
    "two_workers",
    "it fails with two workers, and neither with one nor in one process",
    "Workers get in each other's way: a file or folder that each writes, a port, a device, a lock on a file.",
    "Give each worker its own (`torch.utils.data.get_worker_info().id` in the name), or let only one do it.",
)
WORKERS_SILENT = _kind(
    "workers_silent",
    "workers go silent, under every way of starting them, and one process does not",
    "Training hangs without a message.",
    "The stacks of all workers are in the report: see what each waits for.",
)
WORKERS_FAIL = _kind(
    "workers_fail",
    "it fails in workers, and not in one process",
    "The main process learns little of it; the worker's own traceback is in the report.",
    "See the traceback: something is there in the main process that a worker lacks, such as a device, an "
    "environment variable or a global that the script sets.",
)
UNEXPLAINED = _kind(
    "unexplained",
    "it fails, and no rule says why",
    "What was seen is in the report.",
    "Look at the tracebacks and stacks of the report, beginning with the trial that the evidence names.",
)
