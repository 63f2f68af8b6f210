"""One page that says who and what is in the data set: the asset `sheet`."""

# No postponed annotations: Dagster reads the types of `context` and of resources when it decorates.
import dagster as dg

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.platform.assets import asset_pages
from radiobject_assets.platform.assets.materialization_metadata import (
    data_version_of,
    measuring,
    with_unit,
)
from radiobject_assets.platform.assets.partitions import TRAINING_GROUP, asset_key
from radiobject_assets.platform.assets.privacy import shielded
from radiobject_assets.platform.assets.snapshot import SnapshotNote
from radiobject_assets.platform.assets.splits import current_splits
from radiobject_assets.platform.own_names import with_own_resources
from radiobject_assets.resources import DatasetResource, MemoryBudgetResource, StorageResource


def build_sheet(settings: DatasetSettings) -> dg.AssetsDefinition:
    """The asset `sheet`: the data-set sheet of the latest snapshot."""

    @dg.asset(
        key=asset_key(settings, "sheet"),
        deps=[asset_key(settings, name) for name in ("profile", "splits")],
        group_name=TRAINING_GROUP,
        kinds={"html"},
        owners=settings.owners,
        code_version="1",
        description=asset_pages.SHEET,
    )
    @with_own_resources(settings)
    def sheet(
        dataset: DatasetResource, storage: StorageResource, memory: MemoryBudgetResource
    ) -> dg.MaterializeResult[None]:
        from radiobject_assets.curation.sheet_of_state import SHEET, make_sheet

        with shielded(dataset.work.root):
            tables = dataset.tables(storage)
            with measuring(memory.budget()) as measurement:
                note = SnapshotNote.read(tables)
                divided = current_splits(tables)
                page = make_sheet(
                    dataset.config.store_uri,
                    dataset.config,
                    snapshot=note.name,
                    profiles=tables.storage,
                    splits=dict(zip(divided["obs_subject_id"], divided["split"], strict=True)),
                    ctx=storage.ctx,
                )
                tables.put_text(SHEET, page)
            return dg.MaterializeResult(
                data_version=dg.DataVersion(data_version_of([page])),
                metadata={
                    "summary": f"a page of {with_unit(len(page.encode('utf-8')))}: open it in a browser",
                    "sheet": dg.MetadataValue.path(tables.where(SHEET)),
                    "snapshot": note.name,
                    **measurement.metadata(),
                },
            )

    return sheet
