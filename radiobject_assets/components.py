"""The data set as a component, for `dg scaffold defs` in any Dagster project.

Found by Dagster's tools through the entry point `dagster_dg_cli.registry_modules`. They look at every name of
the module that is registered, so that it is this one and not the package, whose names need torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import BaseModel

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.definitions import build_definitions

__all__ = ["RadiologyDataset"]

_EXAMPLE = """\
type: {type}
attributes:
  name: radiology
  landing: landing
  store: store
  collections:
    ct: {{match: {{modality: CT}}}}
  patches: {{image: ct, size_voxels: [64, 64, 32]}}
"""


class _Scaffolder(dg.Scaffolder[Any]):
    def scaffold(self, request: dg.ScaffoldRequest[Any]) -> None:
        request.target_path.mkdir(parents=True, exist_ok=True)
        text = _EXAMPLE.format(type=request.type_name)
        (request.target_path / "defs.yaml").write_text(text, encoding="utf-8")


class DatasetAttributes(DatasetSettings):
    """The keys of dataset.yaml, as attributes in a defs.yaml."""

    @classmethod
    def model_json_schema(cls, *args: Any, **options: Any) -> dict[str, Any]:
        """The schema for editors and the docs tab; Dagster's example of it knows no tuples (1.13)."""
        schema = super().model_json_schema(*args, **options)
        del schema["properties"]["folder"]  # where the file is, and nothing to be said in it
        _tuples_to_lists(schema)
        return schema


def _tuples_to_lists(schema: Any) -> None:
    if isinstance(schema, dict):
        if "prefixItems" in schema:
            schema["items"] = schema.pop("prefixItems")[0]
        for value in schema.values():
            _tuples_to_lists(value)
    elif isinstance(schema, list):
        for value in schema:
            _tuples_to_lists(value)


@dg.scaffold_with(_Scaffolder)
class RadiologyDataset(dg.Component):
    """DICOM and NIfTI from a landing zone, as volumes in a RadiObject store and as patches for training.

    Each folder or archive in `landing` is one arrival and one partition. A sensor finds it once it is
    complete; its series are judged, and become volumes of the collections that they match, or are held back
    with a reason. A snapshot, splits by subject and patch caches follow, each with its checks.

    **Attributes** are the keys of dataset.yaml (`docs/reference/dataset.md`). The least is `landing` and
    `store`; without `collections` each series goes to the collection of its modality. Paths are relative to
    the project's folder, in which `work` is made: keep both out of version control.

    **Resources** are `dataset`, `storage` (S3, from the usual AWS variables), `memory`
    (`RADIOBJECT_MEMORY_MB`) and `compute` (`RADIOBJECT_WORKERS`). With a `name` the keys of resources and the
    names of jobs and sensors begin with it (`radiology__process_arrival`), so that a project may
    hold several.
    """

    def __init__(self, settings: DatasetSettings) -> None:
        self.settings = settings

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        """The keys of dataset.yaml, for the docs tab and for editors."""
        return DatasetAttributes

    @classmethod
    def get_spec(cls) -> dg.ComponentTypeSpec:
        """What the docs tab says beside the text."""
        return dg.ComponentTypeSpec(tags=["dicom", "nifti", "pytorch"])

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> RadiologyDataset:
        """The component of a defs.yaml; templates such as `{{ env.STORE }}` are filled in."""
        said = attributes.model_dump(exclude_unset=True, mode="json") if attributes else {}
        filled = context.resolution_context.resolve_value(said)
        return cls(DatasetSettings(**{**filled, "folder": Path(context.project_root)}))

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The definitions of the data set. How steps are executed is left to the project."""
        made = build_definitions(self.settings, beside_others=self.settings.name is not None)
        return dg.Definitions(
            assets=made.assets,
            asset_checks=made.asset_checks,
            jobs=made.jobs,
            schedules=made.schedules,
            sensors=made.sensors,
            resources=made.resources,
        )
