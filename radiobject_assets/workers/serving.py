"""What a worker process does: answer the tasks of the process that started it, until there are no more."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Callable
from typing import Any

from radiobject_assets.workers.channel import Channel
from radiobject_assets.workers.memory_use import memory_use

Answering = Callable[[bytearray], tuple[dict[str, Any], bytes | memoryview]]
"""What a worker does with the bytes of a task: a document (of JSON) and bytes are its answer."""

# Above what a task declares, before the system refuses a worker more: allocators ask for more than they use.
_SPARE_ADDRESSES = 1 << 30


def serve(channel: Channel, answer: Answering) -> None:
    """Answer tasks until there are no more; an error of `answer` itself ends the process."""
    held = memory_use()
    channel.send({"resident": held.resident_bytes})
    while True:
        try:
            task, length, slot = channel.receive()
            data = channel.read_bytes(length, slot)
        except EOFError:
            return
        if task["addresses"] is not None:
            _limit_addresses(held.address_bytes + task["addresses"] + _SPARE_ADDRESSES)
        document, body = answer(data)
        del data
        held = memory_use()
        channel.send({**document, "task": task["task"], "resident": held.resident_bytes}, body, slot)


def _limit_addresses(limit: int) -> None:
    """Let a codec have what such a task may need and no more: what it asks for beyond is refused to it."""
    if sys.platform != "linux":
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard == resource.RLIM_INFINITY or limit < hard:
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def main(answer: Answering) -> None:
    """Serve the process that started this one; the arguments are its lifeline and the files in memory."""
    lifeline, *memory = sys.argv[1:]
    # The system ends this process and all that it has started when the parent's end of the lifeline closes,
    # however the parent ended and whatever runs here.
    fcntl.fcntl(int(lifeline), fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(int(lifeline), fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    answers = os.dup(1)
    os.dup2(2, 1)  # what a library prints must not come between the answers
    serve(Channel(0, answers, [int(descriptor) for descriptor in memory]), answer)
