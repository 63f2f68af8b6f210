"""The Dagster job `forget`: people by their marks, since what configures a run is kept and shown."""

# No postponed annotations: Dagster reads the types of `context` and of resources when it decorates.
from collections.abc import Sequence

import dagster as dg
from pydantic import Field

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.errors import ConfigurationError
from radiobject_assets.platform.arrivals.runs import DATA_SET_TAG
from radiobject_assets.platform.assets.privacy import shielded
from radiobject_assets.platform.automation.sensors import data_set_of
from radiobject_assets.platform.own_names import own_name, with_own_resources
from radiobject_assets.resources import DatasetResource, StorageResource

FORGET_JOB = "forget"


class WhomToForget(dg.Config):
    """What is asked of a run."""

    people: list[str] = Field(
        description="Marks of subjects (`f-` and 24 digits), as `radiobject-assets forget SUBJECT` prints "
        "them without --yes. Never an id: a run's configuration is kept and shown."
    )
    landing: bool = Field(
        default=False,
        description="Remove their files from the landing zone, and their lines of split.by_hand.",
    )


def build_forget_job(
    settings: DatasetSettings,
    assets: Sequence[dg.AssetsDefinition],
    checks: Sequence[dg.AssetChecksDefinition],
) -> dg.JobDefinition:
    """The job that forgets people in a data set with these assets and checks."""

    @dg.op(
        name=own_name(settings, "forget_people"),
        description="Remove everything of some people, and look for it once more. What was interrupted is "
        "finished by running the job again with the same configuration.",
    )
    @with_own_resources(settings)
    def forget_people(
        context: dg.OpExecutionContext,
        config: WhomToForget,
        dataset: DatasetResource,
        storage: StorageResource,
    ) -> None:
        from radiobject_assets.forgetting.forget import House, forget_person
        from radiobject_assets.store import FORGOTTEN_MARK

        with shielded(dataset.work.root):
            if not all(map(FORGOTTEN_MARK.fullmatch, config.people)):
                # what was given is not repeated: it may be an id
                raise ConfigurationError(
                    "`people` must be marks (f- and 24 digits), as `radiobject-assets forget SUBJECT` prints "
                    "them; delete this run, since its configuration may hold an id"
                )
            house = House.of(dataset, storage, context.instance, assets, checks)
            for mark in config.people:
                done = forget_person(house, mark, landing=config.landing, own_run=context.run_id)
                context.log.info(
                    f"{mark}: {done.volumes} volumes, {done.arrivals} arrivals, {done.runs} runs; none left"
                )
                if done.staged_files and not config.landing:
                    context.log.warning(f"{done.staged_files} files of studies not delivered yet are theirs")
                if done.split_lines and not config.landing:
                    context.log.warning(f"{done.split_lines} lines of split.by_hand still name the person")
                if done.not_read:
                    context.log.warning(f"may hold them, and can't be read: {', '.join(done.not_read)}")
                if done.by_hand:
                    context.log.warning(
                        f"{done.by_hand} archives of the landing zone hold other people as well"
                    )

    @dg.job(
        name=own_name(settings, FORGET_JOB),
        tags={DATA_SET_TAG: data_set_of(settings)},
        executor_def=dg.in_process_executor,
        description="Forget people: voxels, rows, tables, pictures, patches, history. Get their marks with "
        "`radiobject-assets forget SUBJECT`.",
    )
    def forget_job() -> None:
        forget_people()

    return forget_job
