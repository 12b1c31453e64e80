"""
### The nightly email list

Every night, each subscriber's recommendations go from Amazon Personalize into a table, and, if they are good enough,
from there into the list of emails to send. Two HTML pages show what came of it: what the recommendations are like as a
whole, and what the emails look like.

A check that fails stops the run. If it only warns, a person is asked: the task `approve` waits, under **Required
Actions**, with the figures and a few of the emails, until somebody approves or refuses. After 12 hours without an
answer, the list counts as refused. (Airflow older than 3.1 cannot ask. There the run goes on, and its log says so.) The
table `email_list_decisions` says for each night who decided what, and when. The list is announced to other DAGs once it
is good, or approved: so schedule what sends the emails on that, rather than on the clock.

It runs as it is against the local stand-in (`make demo`). Against AWS, nothing here changes: give the connections
`aws_default` and `postgres_default`, and set these Airflow variables.

| variable | what it is |
| --- | --- |
| `personalize_bucket` | the S3 bucket for the jobs' input and output |
| `personalize_role_arn` | the role that Personalize reads and writes that bucket with |
| `personalize_solution_arn` | the solution, for user personalization; its newest version that has passed is used |
| `email_preview_dir` | the folder for the two pages, on S3 or not; by default `email_previews` in Airflow's home |

Where the environment variable `PERSONALIZE_ALERTS_TOPIC` names an SNS topic, that topic hears of a run that has failed
and, on Airflow 3.1 and newer, of a list that is not there by 6:00.

A version has passed if it has the tag `quality` = `passed`, which `weekly_retrain` gives it after its check. So a night
after a bad training runs on the last good version, and the log of `recommend` says so.

The database has the tables `subscribers` (`user_id, name, email, subscribed`) and `items` (`item_id, title, genres`).
The tables `recommendations` and `email_list` are made by the first run.

The task `recommend` creates the job and waits for it, in the triggerer. So its `retries` heal a job that has failed:
they make another one. A sensor's could not, since it would look at the same failed job again (see
`personalized_ranking`).
"""

from __future__ import annotations

import logging
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator

from airflow_provider_personalize.compat import AirflowException
from airflow_provider_personalize.operators.batch import PersonalizeCreateBatchInferenceJobOperator
from airflow_provider_personalize.operators.output_check import PersonalizeOutputCheckOperator
from airflow_provider_personalize.quality.thresholds import FIGURES, format_figure
from airflow_provider_personalize.transfers.personalize_to_sql import PersonalizeToSqlOperator
from airflow_provider_personalize.transfers.sql_to_personalize import SqlToPersonalizeInputOperator

try:
    from airflow.sdk import DAG, Asset, task
except ImportError:  # Airflow 2
    from airflow import DAG
    from airflow.datasets import Dataset as Asset
    from airflow.decorators import task

try:
    from airflow.providers.standard.operators.hitl import HITLOperator
    from airflow.sdk.definitions.deadline import AsyncCallback, DeadlineAlert, DeadlineReference
except (ImportError, AirflowException):  # Airflow older than 3.1 asks nobody, and has no deadlines.
    HITLOperator = None

log = logging.getLogger(__name__)

AWS = "aws_default"
WAREHOUSE = "postgres_default"

BUCKET = "{{ var.value.get('personalize_bucket', 'personalize-local') }}"
ROLE = "{{ var.value.get('personalize_role_arn', 'arn:aws:iam::123456789012:role/personalize-local') }}"
SOLUTION = (
    "{{ var.value.get('personalize_solution_arn', "
    "'arn:aws:personalize:us-east-1:123456789012:solution/user-personalization') }}"
)

# The pages hold names and addresses, so they go to no folder that is shared, as the one for temporary files is.
HOME = Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser()
PAGES = f"{{{{ (var.value.get('email_preview_dir', '') or '{HOME / 'email_previews'}').rstrip('/') }}}}"

TEMPLATES = Path(__file__).with_name("templates")

#: What other DAGs can be scheduled on: recommendations that are good enough.
RECOMMENDATIONS = Asset("recommendations")

# A run that was triggered by hand has no logical date on Airflow 3.
RUN_DATE = "{{ (dag_run.logical_date or dag_run.run_after) | ds }}"
FOLDER = f"s3://{BUCKET}/nightly_email_list/{{{{ (dag_run.logical_date or dag_run.run_after) | ts_nodash }}}}"

APPROVE, REJECT = "Approve", "Reject"
#: The SNS topic to tell; read when the file is, since it decides what the DAG has.
TOPIC = os.environ.get("PERSONALIZE_ALERTS_TOPIC")


def alerts() -> dict[str, Any]:
    """
    Return the DAG's arguments that tell a topic of a task that has failed for good, and of a list that is late.

    They are there only where a topic is: Airflow 3.3's ``dag.test()`` cannot run a DAG that has a deadline.
    """
    if not TOPIC:
        return {}
    from airflow.providers.amazon.aws.notifications.sns import SnsNotifier

    told = {"target_arn": TOPIC, "aws_conn_id": AWS, "subject": "The email list"}
    failed = SnsNotifier(**told, message="{{ ti.task_id }} has failed: {{ ti.dag_id }}, {{ ti.run_id }}.")
    if HITLOperator is None:
        return {"on_failure_callback": failed}
    # The run begins at 2:00, which is its logical date.
    late = AsyncCallback(SnsNotifier, {**told, "message": "There is no list by 6:00."})
    deadline = DeadlineAlert(DeadlineReference.DAGRUN_LOGICAL_DATE, timedelta(hours=4), late)
    return {"on_failure_callback": failed, "deadline": deadline}


def as_text(words: object) -> str:
    """Return words of the data for Markdown, in which they mean nothing but themselves."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", " ".join(str(words).split()))


def question(warned: list[str], figures: dict[str, Any], emails: list[tuple[str, str, str]], page: str) -> str:
    """
    Return what a person has to know to decide, as Markdown.

    :param warned: What the check warns of.
    :param figures: What the check has returned.
    :param emails: A few of the emails: the name, the address and the titles of each.
    :param page: The page of the check's task.
    """
    before = figures["previous"] or {}
    known = [name for name in FIGURES if figures.get(name) is not None]
    rows = [
        f"| {as_text(name)} | {format_figure(name, figures[name])} | "
        f"{'' if before.get(name) is None else format_figure(name, before[name])} |"
        for name in known
    ]
    report = f", and it is at {as_text(figures['report_uri'])}" if figures["report_uri"] else ""
    return "\n".join(
        [
            "The check of tonight's recommendations warns:",
            "",
            *(f"- {as_text(warning)}" for warning in warned),
            "",
            f"[The task `check`]({page}) has the report{report}.",
            "",
            "| figure | tonight | the night before |",
            "| --- | ---: | ---: |",
            *rows,
            "",
            "Some of the emails:",
            "",
            *(f"- **{as_text(name)}** ({as_text(email)}): {as_text(titles)}" for name, email, titles in emails),
        ]
    )


def who_is(answer: dict[str, Any]) -> str | None:
    """Return who has answered; None where nobody did in time."""
    user = answer.get("responded_by_user") or {}
    return user.get("name") or user.get("id")


with DAG(
    dag_id="nightly_email_list",
    description="Recommendations for every subscriber, from Amazon Personalize into tonight's emails",
    doc_md=__doc__,
    schedule="0 2 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5)},
    params={"top_n": 5, "preview_emails": 60},
    tags=["personalize", "example"],
    **alerts(),
) as dag:
    # Everybody is asked for, also who gets no email now: the job takes a while, and people change their minds.
    prepare = SqlToPersonalizeInputOperator(
        task_id="prepare",
        task_display_name="Write the input",
        doc_md="Write everybody's ids to S3, as the lines of the job's input.",
        sql="SELECT user_id FROM subscribers ORDER BY user_id",
        sql_conn_id=WAREHOUSE,
        s3_uri=f"{FOLDER}/input/",
        aws_conn_id=AWS,
    )

    recommend = PersonalizeCreateBatchInferenceJobOperator(
        task_id="recommend",
        task_display_name="Make recommendations",
        doc_md="Create the batch inference job, and wait for it in the triggerer.",
        solution_arn=SOLUTION,
        require_tags={"quality": "passed"},
        role_arn=ROLE,
        input_uri=prepare.output,
        output_uri=f"{FOLDER}/output/",
        num_results=25,
        deferrable=True,
        poll_interval=10,
        timeout=timedelta(hours=6).total_seconds(),
        aws_conn_id=AWS,
    )

    load = PersonalizeToSqlOperator(
        task_id="load",
        task_display_name="Load the recommendations",
        doc_md="Load the job's output into the table, all of it or nothing.",
        job_arn=recommend.output,
        sql_conn_id=WAREHOUSE,
        table="recommendations",
        write_mode="replace_slice",
        extra_columns={"run_date": RUN_DATE},
        rejects_table="recommendations_rejected",
        aws_conn_id=AWS,
    )

    check = PersonalizeOutputCheckOperator(
        task_id="check",
        task_display_name="Check the recommendations",
        doc_md="Compare what was loaded with what is expected; what fails stops the run, what warns is for a person.",
        sql_conn_id=WAREHOUSE,
        table="recommendations",
        extra_columns={"run_date": RUN_DATE},
        input_sql="SELECT user_id FROM subscribers",
        catalog_sql="SELECT item_id, title FROM items",
        loaded=load.output,
        rejects_table="recommendations_rejected",
        checks={"entity_coverage": {"geq_to": 0.9}},
        warn_checks={
            "min_results": {"geq_to": "{{ params.top_n }}"},
            "top_item_share": {"leq_to": 0.9},
            "overlap": {"geq_to": 0.1},
        },
        report_uri=f"{PAGES}/recommendations_{RUN_DATE}.html",
        aws_conn_id=AWS,
    )

    # The statements are one transaction: whoever reads the list sees tonight's emails, or the state before.
    email_list = SQLExecuteQueryOperator(
        task_id="email_list",
        task_display_name="Make the list",
        doc_md="Write tonight's emails, in one transaction.",
        conn_id=WAREHOUSE,
        parameters={"run_date": RUN_DATE, "top_n": "{{ params.top_n }}"},
        sql=[
            """
            CREATE TABLE IF NOT EXISTS email_list (
                run_date date, user_id text, name text, email text,
                rank integer, item_id text, title text, genres text, score double precision,
                PRIMARY KEY (run_date, user_id, rank)
            )
            """,
            """
            CREATE TABLE IF NOT EXISTS email_list_decisions (
                run_date date PRIMARY KEY, decision text, decided_by text, decided_at timestamptz, warnings text
            )
            """,
            # What was decided of an earlier list of this night says nothing of this one.
            "DELETE FROM email_list_decisions WHERE run_date = %(run_date)s",
            "DELETE FROM email_list WHERE run_date = %(run_date)s",
            """
            INSERT INTO email_list
            SELECT CAST(run_date AS date), user_id, subscriber.name, subscriber.email,
                   rank, item_id, COALESCE(item.title, 'Item ' || item_id), item.genres, score
            FROM recommendations
            JOIN subscribers AS subscriber USING (user_id)
            LEFT JOIN items AS item USING (item_id)
            WHERE run_date = %(run_date)s AND subscriber.subscribed AND rank <= CAST(%(top_n)s AS integer)
            """,
        ],
    )

    @task(task_display_name="Show the emails")
    def preview(run_date: str, emails: str, folder: str) -> str:
        """Write some of the night's emails into a page that a person can open, and return where it is."""
        from airflow.providers.postgres.hooks.postgres import PostgresHook
        from jinja2 import Environment

        from airflow_provider_personalize.operators.reports import publish_page

        with PostgresHook(postgres_conn_id=WAREHOUSE).get_conn() as connection, connection.cursor() as cursor:
            cursor.execute(
                """
                SELECT count(DISTINCT user_id), count(*), count(DISTINCT item_id),
                       (SELECT count(*) FROM subscribers WHERE NOT subscribed)
                FROM email_list WHERE run_date = %s
                """,
                [run_date],
            )
            summary = dict(zip(("emails", "recommendations", "titles", "unsubscribed"), cursor.fetchone(), strict=True))
            cursor.execute(
                (TEMPLATES / "emails_to_look_at.sql").read_text(encoding="utf-8"),
                {"run_date": run_date, "emails": int(emails)},
            )
            shown = [dict(zip(("user_id", "name", "email", "picks"), row, strict=True)) for row in cursor]
            # Where it is known what people watched (`weekly_retrain`) and what is like it (`similar_items_catalog`).
            cursor.execute("SELECT to_regclass('views') IS NOT NULL AND to_regclass('similar_items') IS NOT NULL")
            if cursor.fetchone() == (True,):
                cursor.execute(
                    (TEMPLATES / "reasons.sql").read_text(encoding="utf-8"),
                    {"run_date": run_date, "users": [mail["user_id"] for mail in shown]},
                )
                reasons = {(user_id, item_id): title for user_id, item_id, title in cursor}
                for mail in shown:
                    for pick in mail["picks"]:
                        pick["because"] = reasons.get((mail["user_id"], pick["item_id"]))

        template = (TEMPLATES / "email_preview.html").read_text(encoding="utf-8")
        page = Environment(autoescape=True).from_string(template).render(run_date=run_date, shown=shown, **summary)
        # On Airflow 3.1 and newer, it is also in the tab "Reports" of the run.
        uri = f"{folder}/email_list_{run_date}.html"
        return publish_page(page, uri, title="Emails", aws_conn_id=AWS, template=template)

    @task.branch(task_display_name="Ask a person, if need be")
    def ask(run_date: str, figures: dict[str, Any], ti: Any = None) -> str:
        """Go on where the check had nothing to say; where it warned, ask a person."""
        from airflow.providers.postgres.hooks.postgres import PostgresHook

        warned = ti.xcom_pull(task_ids="check", key="warned")
        if not warned:
            log.info("The check had nothing to say, so nobody is asked.")
            return "decide"
        if HITLOperator is None:
            log.warning("The check warned, and nobody can be asked on Airflow older than 3.1: the run goes on.")
            return "decide"
        emails = PostgresHook(postgres_conn_id=WAREHOUSE).get_records(
            """
            SELECT name, email, string_agg(title, ' · ' ORDER BY rank) FROM email_list
            WHERE run_date = %s GROUP BY user_id, name, email ORDER BY user_id LIMIT 3
            """,
            [run_date],
        )
        page = f"/dags/{ti.dag_id}/runs/{quote(ti.run_id, safe='')}/tasks/check"
        ti.xcom_push(key="question", value=question(warned, figures, emails, page))
        return "approve"

    @task.short_circuit(trigger_rule="none_failed_min_one_success", task_display_name="Note the decision")
    def decide(run_date: str, ti: Any = None) -> bool:
        """Note beside the list who decided what, and when; a list that was refused is not announced."""
        from airflow.providers.postgres.hooks.postgres import PostgresHook

        answer = ti.xcom_pull(task_ids="approve")
        warned = ti.xcom_pull(task_ids="check", key="warned") or []
        by, at = None, datetime.now(tz=UTC)
        if answer:
            decision = "approved" if answer["chosen_options"] == [APPROVE] else "refused"
            by, at = who_is(answer), answer["responded_at"]
        else:
            decision = "not asked" if warned else "good"
        who = by or ("nobody answered in time" if answer else "nobody was asked")
        log.info("The list of %s: %s (%s, %s).", run_date, decision, who, at)
        note = [run_date, decision, by, str(at), "\n".join(warned)]
        with PostgresHook(postgres_conn_id=WAREHOUSE).get_conn() as connection, connection.cursor() as cursor:
            cursor.execute("DELETE FROM email_list_decisions WHERE run_date = %s", [run_date])
            cursor.execute("INSERT INTO email_list_decisions VALUES (%s, %s, %s, %s, %s)", note)
        return decision != "refused"

    @task(outlets=[RECOMMENDATIONS], task_display_name="Announce the list")
    def announce(loaded: dict[str, Any], outlet_events: Any = None) -> None:
        """Trigger the DAGs that are scheduled on the recommendations, now that they are good, or approved."""
        outlet_events[RECOMMENDATIONS].extra.update(loaded, table="recommendations")

    asked, decided = ask(RUN_DATE, check.output), decide(RUN_DATE)
    load >> check >> email_list >> preview(RUN_DATE, "{{ params.preview_emails }}", PAGES) >> asked
    asked >> decided >> announce(load.output)
    if HITLOperator is not None:
        approve = HITLOperator(
            task_id="approve",
            task_display_name="Approve the list",
            doc_md="Wait for a person, who has the figures and some of the emails to decide by.",
            subject=f"Send the emails of {RUN_DATE}?",
            body="{{ ti.xcom_pull('ask', key='question') }}",
            options=[APPROVE, REJECT],
            defaults=REJECT,
            response_timeout=timedelta(hours=12),
        )
        asked >> approve >> decided
