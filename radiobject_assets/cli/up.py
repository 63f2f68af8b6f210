"""`radiobject-assets up`: the Dagster webserver and daemon over a data set, for good."""

from __future__ import annotations

import os
import signal
import sys
from importlib.util import find_spec
from pathlib import Path

from radiobject_assets.errors import ConfigurationError


def become_dagster(dataset: Path | None, home: Path | None, host: str, port: int) -> None:
    """Become `dagster dev` over a data set. Returns only by an error.

    Parameters
    ----------
    dataset
        dataset.yaml; without it the one that `find_dataset_file` finds.
    home
        DAGSTER_HOME, where the history is kept; without it the environment's, else `dagster` beside
        dataset.yaml.
    host, port
        Where the webserver listens. It has no log-in.

    Raises
    ------
    ConfigurationError
        dataset.yaml or a variable of the environment is wrong, or the webserver is not installed.
    """
    if find_spec("dagster_webserver") is None:
        raise ConfigurationError(
            "the Dagster webserver is not installed: pip install 'radiobject-assets[ui]'"
        )
    # imports Dagster: a mistake is told here in one line, and not in the log of a server
    from radiobject_assets.definitions import DATASET_VARIABLE, build_definitions, find_dataset_file
    from radiobject_assets.platform.instance_settings import prepare_instance, write_workspace

    file = dataset or find_dataset_file()
    if file is None:
        raise ConfigurationError(
            "there is no dataset.yaml here: name one with --dataset "
            "(`radiobject-assets demo` writes an example)"
        )
    build_definitions(file)
    told = os.environ.get("DAGSTER_HOME")
    folder = prepare_instance((home or (Path(told) if told else file.parent / "dagster")).resolve())
    os.environ |= {"DAGSTER_HOME": str(folder), DATASET_VARIABLE: str(file.resolve())}
    command = ["dagster", "dev", "-w", str(write_workspace(folder)), "-h", host, "-p", str(port)]
    # In the background a shell has it ignore Ctrl-C, with which Dagster ends its processes too.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", *command])
