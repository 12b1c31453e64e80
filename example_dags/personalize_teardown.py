"""
### Tear Personalize down

Deletes a dataset group and all that is in it, in the order that the service needs: campaigns, recommenders, event
trackers, filters and metric attributions; solutions with their versions; datasets; the group; and the schemas that no
other group uses.
What was trained is gone for good, and what was imported has to be imported again. The warehouse and S3 keep what they
have.

A person has to agree. **Trigger** asks for the group's name; the first task lists what would be deleted. On Airflow 3.1
and newer, the task `approve` then waits under **Required Actions** until somebody has read that list, has typed the
group's name once more, and approves; a rejection skips the rest. On older versions, the form asks for the name twice.

It runs as it is against the local stand-in. Against AWS, give the connection `aws_default`, and set this Airflow
variable.

| variable | what it is |
| --- | --- |
| `personalize_arn_prefix` | what the ARN of your dataset group begins with |
"""

# ruff: noqa: AIR311 - on Airflow 2, Param comes from where Airflow 3 no longer has it

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow_provider_personalize.compat import AirflowException, AirflowFailException
from airflow_provider_personalize.hooks.resources import PersonalizeResourceHook
from airflow_provider_personalize.operators.resources import PersonalizeDeleteResourceOperator
from airflow_provider_personalize.service.kinds import CAMPAIGN, DATASET, SOLUTION

try:
    from airflow.sdk import DAG, Param, task
except ImportError:  # Airflow 2
    from airflow import DAG
    from airflow.decorators import task
    from airflow.models.param import Param

try:
    from airflow.providers.standard.operators.hitl import ApprovalOperator
except (ImportError, AirflowException):  # Airflow before 3.1, or an old standard provider
    ApprovalOperator = None

AWS = "aws_default"
PREFIX = "{{ var.value.get('personalize_arn_prefix', 'arn:aws:personalize:us-east-1:123456789012') }}"
NAME = "^[a-zA-Z0-9][a-zA-Z0-9_-]{0,62}$"

PARAMS = {
    "dataset_group": Param(type="string", pattern=NAME, title="Dataset group", description="What to delete, by name.")
}
if ApprovalOperator is None:
    PARAMS["confirm"] = Param(
        type="string", pattern=NAME, title="Once more", description="The name of the dataset group, to confirm it."
    )


#: What is deleted, in this order: each needs the one before to be gone.
STEPS = ("users", "solutions", "datasets", "group", "schemas")

with DAG(
    dag_id="personalize_teardown",
    description="Delete a dataset group and all that is in it, once a person has agreed",
    doc_md=__doc__,
    schedule=None,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    params=PARAMS,
    tags=["personalize", "example"],
) as dag:

    @task(task_display_name="Find what is there")
    def find(prefix: str, params: dict[str, Any] | None = None) -> dict[str, list[str]]:
        """Return the ARNs of what would be deleted, by step, in their order."""
        hook = PersonalizeResourceHook(aws_conn_id=AWS)
        group_arn = f"{prefix}:dataset-group/{(params or {})['dataset_group']}"
        hook.describe_resource(group_arn)
        inside = hook.in_the_way(group_arn)
        solutions = [one.arn for one in inside if one.kind is SOLUTION]
        datasets = [one.arn for one in inside if one.kind is DATASET]
        users = [one.arn for one in inside if one.kind not in (SOLUTION, DATASET)]
        users += [one.arn for solution in solutions for one in hook.in_the_way(solution) if one.kind is CAMPAIGN]
        for operation, key, arn in (
            ("list_filters", "Filters", "filterArn"),
            ("list_metric_attributions", "metricAttributions", "metricAttributionArn"),
        ):
            pages = hook.conn.get_paginator(operation).paginate(datasetGroupArn=group_arn)
            users += [one[arn] for page in pages for one in page[key]]
        schemas = {hook.describe_resource(dataset)["schemaArn"] for dataset in datasets}
        unshared = [one for one in sorted(schemas) if {user.arn for user in hook.in_the_way(one)} <= set(datasets)]
        found = (users, solutions, datasets, [group_arn], unshared)
        return dict(zip(STEPS, found, strict=True))

    found = find(PREFIX)

    @task(task_display_name="Confirm the name")
    def confirm(typed: str, params: dict[str, Any] | None = None) -> None:
        """Fail unless the group's name was typed once more as it is."""
        expected = (params or {})["dataset_group"]
        if typed != expected:
            raise AirflowFailException(
                f"Nothing was deleted: expected the name of the dataset group once more, {expected!r}, got {typed!r}. "
                "Trigger the DAG again."
            )

    # A rejection skips whatever comes after, whichever rule that has.
    if ApprovalOperator is not None:
        approve = ApprovalOperator(
            task_id="approve",
            task_display_name="Approve the deletion",
            doc_md="Wait for a person who confirms what is deleted.",
            subject="Delete the dataset group {{ params.dataset_group }} and all that is in it?",
            body="This cannot be undone:\n{% for found in ti.xcom_pull('find').values() %}{% for arn in found %}"
            "\n* `{{ arn }}`{% endfor %}{% endfor %}",
            params={"name": Param("", type="string", title="The name of the dataset group, to confirm it")},
            ignore_downstream_trigger_rules=True,
        )
        found >> approve
        typed = "{{ ti.xcom_pull('approve')['params_input']['name'] }}"
    else:
        typed = "{{ params.confirm }}"
    before = confirm(typed)
    (approve if ApprovalOperator else found) >> before

    @task
    def of_step(found: dict[str, list[str]], step: str) -> list[str]:
        """Return what a step deletes, since Airflow maps over the whole of what a task returns."""
        return found[step]

    for step in STEPS:
        delete = PersonalizeDeleteResourceOperator.partial(
            task_id=f"delete_{step}",
            task_display_name=f"Delete: {step}",
            doc_md="Delete what this step found, each by a task of its own, and wait until it is gone.",
            deferrable=True,
            poll_interval=10,
            aws_conn_id=AWS,
            # A step with nothing to delete is skipped, and the next one follows.
            trigger_rule="none_failed",
        ).expand(resource_arn=of_step.override(task_id=f"list_{step}", task_display_name=f"List: {step}")(found, step))
        before >> delete
        before = delete
