"""TileDB contexts: one per process, remade after a fork, never inherited through a ContextVar.

`tiledb.default_ctx` does not reach plain threads, and a context made before a fork hangs in the child,
because libtiledb's threads are gone there. So every function of this package takes `ctx` explicitly and
every object holds a `ContextRef`, which notices a fork and pickles without secrets.
"""

from __future__ import annotations

import gc
import os
import threading
from typing import Any

import tiledb

from radiobject_assets.store.storage.config import (
    PROFILE_KEY,
    RadiObjectConfig,
    config_generation,
    get_radiobject_config,
)
from radiobject_assets.system.processes import after_fork

_SECRET_KEYS = (
    "vfs.s3.aws_access_key_id",
    "vfs.s3.aws_secret_access_key",
    "vfs.s3.aws_session_token",
    "vfs.s3.aws_external_id",
    "vfs.azure.storage_account_key",
    "vfs.azure.storage_account_sas_token",
    "vfs.gcs.service_account_key",
    "vfs.gcs.external_account_credentials",
    "vfs.s3.proxy_password",
    "vfs.s3.proxy_username",
    "rest.token",
    "rest.username",
    "rest.password",
    "sm.encryption_key",
)

_lock = threading.Lock()
_shared: tuple[int, tiledb.Ctx] | None = None
# Contexts from before a fork: destroying one would wait for threads that no longer exist.
_orphans: list[Any] = []


def _after_fork_in_child() -> None:
    global _lock, _shared
    _lock = threading.Lock()
    # What was garbage in the parent must not be collected here: a context among it would wait for threads
    # that no longer exist.
    gc.freeze()
    if _shared is not None:
        _orphans.append(_shared)
        _shared = None


after_fork(_after_fork_in_child)


def keep_orphan(thing: object) -> None:
    """Keep an object that holds a context of the parent process alive, so that it is never destroyed."""
    _orphans.append(thing)


def make_ctx(config: RadiObjectConfig | None = None, **settings: str) -> tiledb.Ctx:
    """A new context from a configuration (the process's by default) and further TileDB settings."""
    return (config or get_radiobject_config()).to_tiledb_ctx(**settings)


def get_tiledb_ctx() -> tiledb.Ctx:
    """The context of this process, shared by its threads; made anew after `configure` and after a fork."""
    global _shared
    with _lock:
        generation = config_generation()
        if _shared is None or _shared[0] != generation:
            _shared = (generation, make_ctx())
        return _shared[1]


def get_tiledb_config() -> tiledb.Config:
    """The TileDB settings of this process's context."""
    return get_tiledb_ctx().config()


def ctx_for_threads(ctx: tiledb.Ctx | None = None) -> tiledb.Ctx:
    """The context that all threads of this process share: `ctx` itself, or the process's own."""
    return ctx if ctx is not None else get_tiledb_ctx()


def ctx_for_process(base: tiledb.Ctx | None = None) -> tiledb.Ctx:
    """A new context for a child process, with the settings of `base` or of the process's configuration."""
    return make_ctx() if base is None else tiledb.Ctx(tiledb.Config(dict(base.config().dict())))


def ctx_with(base: tiledb.Ctx, **settings: str) -> tiledb.Ctx:
    """A new context with the settings and credentials of another, but for some settings."""
    return tiledb.Ctx(tiledb.Config({**base.config().dict(), **settings}))


class ContextRef:
    """A reference to a context that survives forks and pickling.

    After a fork, or in another process, a new context with the same settings takes its place. Credentials
    are left out when pickled: the other process finds its own in its environment.
    """

    def __init__(self, ctx: tiledb.Ctx | None = None) -> None:
        self._own = ctx
        self._pid = os.getpid()

    def get(self) -> tiledb.Ctx:
        """The context to use now, in this process."""
        if self._own is None:
            return get_tiledb_ctx()
        if self._pid != os.getpid():
            keep_orphan(self._own)
            self._own, self._pid = ctx_for_process(self._own), os.getpid()
        return self._own

    @property
    def explicit(self) -> tiledb.Ctx | None:
        """The caller's own context, or None where the process's is used."""
        return None if self._own is None else self.get()

    def __getstate__(self) -> dict[str, Any]:
        if self._own is None:
            return {"settings": None, "config": get_radiobject_config()}
        settings = {k: v for k, v in self._own.config().dict().items() if v and k not in _SECRET_KEYS}
        defaults = tiledb.Config().dict()
        return {
            "settings": {k: v for k, v in settings.items() if defaults.get(k) != v},
            "config": get_radiobject_config(),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._pid = os.getpid()
        self._own = None
        if state["settings"] is not None:
            credentials = {} if PROFILE_KEY in state["settings"] else _env_credentials()
            self._own = tiledb.Ctx(tiledb.Config({**state["settings"], **credentials}))
        elif state["config"] != get_radiobject_config():
            self._own = make_ctx(state["config"])


def _env_credentials() -> dict[str, str]:
    names = {
        "vfs.s3.aws_access_key_id": "AWS_ACCESS_KEY_ID",
        "vfs.s3.aws_secret_access_key": "AWS_SECRET_ACCESS_KEY",
        "vfs.s3.aws_session_token": "AWS_SESSION_TOKEN",
    }
    return {key: os.environ[name] for key, name in names.items() if os.environ.get(name)}
