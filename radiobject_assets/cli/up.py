"""`radiobject-assets up`: the Dagster webserver and daemon over a data set, for good."""

from __future__ import annotations

import os
import signal
import sys
from importlib.util import find_spec
from pathlib import Path

from radiobject_assets.errors import ConfigurationError

# Of `dagster dev` itself: `dg dev`, which it names instead, needs a project around the data set.
_SUPERSEDED = "ignore:Function `dev_command` is superseded"


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
    from radiobject_assets.dataset.dataset_yaml import load_dataset

    # imports Dagster: a mistake is told here in one line, and not in the log of a server
    from radiobject_assets.definitions import DATASET_VARIABLE, build_definitions, find_dataset_file
    from radiobject_assets.platform.instance_settings import prepare_instance, write_workspace

    file = dataset or find_dataset_file()
    if file is None:
        raise ConfigurationError(
            "there is no dataset.yaml here: name one with --dataset "
            "(`radiobject-assets demo` writes an example)"
        )
    settings = load_dataset(file)
    build_definitions(settings)
    told = os.environ.get("DAGSTER_HOME")
    folder = prepare_instance((home or (Path(told) if told else file.parent / "dagster")).resolve())
    os.environ |= {"DAGSTER_HOME": str(folder), DATASET_VARIABLE: str(file.resolve())}
    quiet = (os.environ.get("PYTHONWARNINGS"), _SUPERSEDED)
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, quiet))
    command = ["dagster", "dev", "-w", str(write_workspace(folder)), "-h", host, "-p", str(port)]
    # In the background a shell has it ignore Ctrl-C, with which Dagster ends its processes too.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.stdout.write(
        f"The UI: http://{host}:{port} (in half a minute or so; Ctrl-C stops it)\n"
        f"What lies in the landing zone of {file} is taken in when it has been quiet for "
        f"{settings.arrivals.quiet_period_s:g} s; the history is kept in {folder}\n"
    )
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", *command])
