"""Which ids are missing, and why lines were rejected, where a figure is not as expected."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from airflow_provider_personalize.quality.figures import OutputTable
from airflow_provider_personalize.quality.loads import Loads
from airflow_provider_personalize.quality.queries import Query
from airflow_provider_personalize.quality.slices import Slice


def what_is_missing(
    table: OutputTable,
    now: Slice,
    figures: AbstractSet[str],
    *,
    input_query: Query | None,
    catalog_query: Query | None,
    loads: Loads,
    rejects_table: str | None,
) -> list[str]:
    """
    Return sentences that name the first ids without results, and the commonest reasons of the rejects.

    :param table: The table.
    :param now: The slice that is judged.
    :param figures: The figures that are not as expected.
    :param input_query: The query of the input, if it is given.
    :param catalog_query: The query of the catalog, if it is given.
    :param loads: What was loaded.
    :param rejects_table: The table that keeps the loader's rejects, if it is given.
    """
    found = []
    if "entity_coverage" in figures and input_query and (ids := table.missing_entities(input_query, now.values)):
        found.append(f"Without results, the first {len(ids)}: {', '.join(map(repr, ids))}.")
    if "catalog_coverage" in figures and catalog_query and (ids := table.missing_items(catalog_query, now.values)):
        found.append(f"Recommended to nobody, the first {len(ids)}: {', '.join(map(repr, ids))}.")
    if "reject_rate" in figures and loads.rejects:
        if not rejects_table:
            found.append("Give the loader's rejects_table to this task, too, to see the reasons of the rejects.")
        elif reasons := table.reject_reasons(rejects_table, loads.sources):
            told = "; ".join(f"{reason} ({count:,})" for reason, count in reasons)
            found.append(f"The commonest reasons of the rejects: {told}.")
    return found
