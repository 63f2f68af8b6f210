"""Names of jobs, sensors and resources where several data sets share one code location.

Dagster wants each name once in a location. Alone there, a data set has the plain names that the docs tell;
beside others each has its own, below the data set's name (`DatasetSettings.beside_others`).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

import dagster as dg

from radiobject_assets.dataset.dataset_yaml import DatasetSettings

Function = TypeVar("Function", bound=Callable[..., Any])


def prefix_of(settings: DatasetSettings) -> str:
    """What the names of this data set begin with; empty where it is alone."""
    if not settings.is_beside_others or settings.name is None:
        return ""
    return f"{settings.name.replace('-', '_')}__"


def own_name(settings: DatasetSettings, name: str) -> str:
    """The name of a job, sensor, schedule, op or resource of this data set."""
    return f"{prefix_of(settings)}{name}"


def is_called(name: str, plain: str) -> bool:
    """Whether a name is this one, of whichever data set."""
    return name == plain or name.endswith(f"__{plain}")


def with_own_resources(settings: DatasetSettings) -> Callable[[Function], Function]:
    """Decorator of a function that Dagster gives resources by the names of its parameters: its own ones.

    It stands below Dagster's decorator. Each function of the platform that takes resources has it.
    """

    def decorate(function: Function) -> Function:
        if not prefix_of(settings):
            return function
        signature = inspect.signature(function)
        own = {
            name: own_name(settings, name)
            for name, parameter in signature.parameters.items()
            if isinstance(parameter.annotation, type)
            and issubclass(parameter.annotation, dg.ConfigurableResource)
        }
        plain = {to: name for name, to in own.items()}

        @functools.wraps(function)
        def renamed(*args: Any, **given: Any) -> Any:
            return function(*args, **{plain.get(name, name): value for name, value in given.items()})

        parameters = [p.replace(name=own.get(p.name, p.name)) for p in signature.parameters.values()]
        renamed.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        renamed.__annotations__ = {own.get(k, k): v for k, v in function.__annotations__.items()}
        return cast("Function", renamed)

    return decorate
