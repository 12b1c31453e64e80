"""In which order resources can be deleted. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from airflow_provider_personalize.service.kinds import (
    CAMPAIGN,
    DATASET,
    DATASET_EXPORT_JOB,
    DATASET_GROUP,
    DATASET_IMPORT_JOB,
    EVENT_TRACKER,
    RECOMMENDER,
    SCHEMA,
    SOLUTION,
    SOLUTION_VERSION,
    ResourceKind,
)

#: What has to be gone before a resource can be deleted.
# Assumption: filters and metric attributions go with their group.
IN_THE_WAY: Mapping[ResourceKind, tuple[ResourceKind, ...]] = {
    DATASET_GROUP: (EVENT_TRACKER, SOLUTION, RECOMMENDER, DATASET),
    SOLUTION: (CAMPAIGN,),
    SCHEMA: (DATASET,),
}
#: What has to have ended before a resource can be deleted.
UNFINISHED: Mapping[ResourceKind, tuple[ResourceKind, ...]] = {
    SOLUTION: (SOLUTION_VERSION,),
    DATASET: (DATASET_IMPORT_JOB, DATASET_EXPORT_JOB),
}
