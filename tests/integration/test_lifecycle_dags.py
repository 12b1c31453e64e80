"""The example DAGs of a model's life, one after the other: from an empty account to the nightly list, and to none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from airflow_provider_personalize.compat import AirflowFailException
from airflow_provider_personalize.exceptions import SolutionVersionCheckError
from airflow_provider_personalize.hooks.personalize import PersonalizeHook
from airflow_provider_personalize.local import LocalPersonalize
from airflow_provider_personalize.operators.training import PersonalizeSolutionVersionCheckOperator
from tests.integration.test_example_dags import NIGHTLY, know_the_asset, load, run_dag, states
from tests.integration.test_jobs import context
from tests.integration.test_local_lifecycle import FILMS, SCHEMAS, USERS, Account, genre, interactions

if TYPE_CHECKING:
    from example_dags.demo.postgres import Database

EXAMPLES = NIGHTLY.parent
SETUP, RETRAIN, FORGET, TEARDOWN = (
    EXAMPLES / f"{name}.py" for name in ("personalize_setup", "weekly_retrain", "forget_users", "personalize_teardown")
)
GROUP = "personalize-local"


@pytest.fixture
def empty(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalPersonalize]:
    """The stand-in as an account with nothing in it; whoever waits to try again does so at once."""
    monkeypatch.setattr(PersonalizeHook, "_pause", lambda *_: None)
    monkeypatch.setattr("botocore.retryhandler.delay_exponential", lambda *_, **__: 0)
    with LocalPersonalize(port=0, job_seconds=0.2, empty=True) as service:
        for name, value in service.environment.items():
            monkeypatch.setenv(name, value)
        yield service


@pytest.fixture
def shop(
    postgres: Database,
    airflow_connection: Callable[[str, str], str],
    airflow_db: None,
    empty: LocalPersonalize,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Database:
    """A small company's database: 100 people who each watch films of one genre, and 160 films."""
    airflow_connection("postgres_default", postgres.uri)
    airflow_connection("aws_default", "aws://")
    monkeypatch.setenv("AIRFLOW_VAR_EMAIL_PREVIEW_DIR", str(tmp_path))
    know_the_asset()
    with postgres.connect() as connection, connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE subscribers (user_id text PRIMARY KEY, name text, email text, subscribed boolean);"
            "CREATE TABLE items (item_id text PRIMARY KEY, title text, genres text);"
            "CREATE TABLE views (user_id text, item_id text, watched timestamptz)"
        )
        people = [(f"u{user}", f"Name {user}", f"u{user}@example.com", user != 1) for user in range(USERS)]
        cursor.executemany("INSERT INTO subscribers VALUES (%s, %s, %s, %s)", people)
        films = [(f"f{film}", f"Film {film}", genre(film)) for film in range(FILMS)]
        cursor.executemany("INSERT INTO items VALUES (%s, %s, %s)", films)
        watch(cursor, interactions())
    connection.close()
    return postgres


def watch(cursor: Any, rows: list[tuple[str, str]]) -> None:
    """Let people watch films in the course of one day."""
    sql = "INSERT INTO views VALUES (%s, %s, '2026-01-01Z'::timestamptz + %s * interval '1 day')"
    cursor.executemany(sql, [(*row, number / len(rows)) for number, row in enumerate(rows)])


def run(path: Path, day: int, **kwargs: Any) -> Any:
    return run_dag(path, datetime(2026, 3, day, 2, tzinfo=UTC), **kwargs)


def emails(shop: Database, user: str, day: int) -> list[str]:
    sql = "SELECT item_id FROM email_list WHERE user_id = %s AND run_date = %s ORDER BY rank"
    return [item for (item,) in shop.execute(sql, [user, f"2026-03-{day:02}"])]


def account() -> dict[str, Any]:
    """Return what there is, by its ARN, as the API describes it."""
    client = boto3.client("personalize")
    found = {}
    for noun in ("dataset_group", "schema", "dataset", "solution", "filter"):
        listed = next(v for k, v in getattr(client, f"list_{noun}s")().items() if k != "ResponseMetadata")
        words = noun.split("_")
        key = words[0] + "".join(word.title() for word in words[1:])
        for one in listed:
            arn = one[f"{key}Arn"]
            found[arn] = getattr(client, f"describe_{noun}")(**{f"{key}Arn": arn})[key]
    return found


def created(service: LocalPersonalize) -> dict[str, int]:
    """Count the create calls that made something."""
    made: dict[str, int] = {}
    for call in service.controls.state()["create_calls"]:
        if call["outcome"].startswith("ok"):
            made[call["operation"]] = made.get(call["operation"], 0) + 1
    return made


def newest(solution: str) -> str:
    versions = boto3.client("personalize").list_solution_versions(solutionArn=solution)["solutionVersions"]
    return str(max(versions, key=lambda version: version["creationDateTime"])["solutionVersionArn"])


MADE_ONCE = {
    "CreateDatasetGroup": 1,
    "CreateSchema": 3,
    "CreateDataset": 3,
    "CreateSolution": 2,
    "CreateFilter": 1,
    "CreateDatasetImportJob": 3,
    "CreateSolutionVersion": 2,
    "CreateBatchInferenceJob": 1,
}


def test_from_an_empty_account_to_the_nightly_list(shop: Database, empty: LocalPersonalize) -> None:
    # The first night: every second call fails, of some the answer is lost.
    empty.controls.add_fault("error", times=10**6, between=2)
    empty.controls.add_fault("drop_after", times=10**6, between=2)
    for path in (SETUP, RETRAIN, NIGHTLY):
        assert run(path, 1).state == "success", path
    empty.controls.faults.clear()
    assert created(empty) == MADE_ONCE
    assert {one["status"] for one in account().values() if "status" in one} == {"ACTIVE"}
    [solution] = [arn for arn in account() if arn.endswith(":solution/user-personalization")]
    assert account()[solution]["performAutoTraining"] is False
    first = emails(shop, "u3", 1)
    assert {genre(int(film[1:])) for film in first} == {genre(3)}
    assert emails(shop, "u1", 1) == [], "who is not subscribed gets none"
    [(count,)] = shop.execute("SELECT count(DISTINCT user_id) FROM email_list")
    assert count == USERS - 1

    # Setting up once more changes nothing.
    before, calls = account(), empty.controls.state()["calls"]
    assert run(SETUP, 2).state == "success"
    assert account() == before
    after = empty.controls.state()["calls"]
    changed = {name for name in after if after[name] != calls.get(name)}
    assert {name for name in changed if not name.startswith(("List", "Describe"))} == set()

    # Everybody but u3 watches a new film, and the one that u3 was recommended first is withdrawn.
    shop.execute("INSERT INTO items VALUES ('f-new', 'The New One', 'Drama')")
    shop.execute("DELETE FROM items WHERE item_id = %s", [first[0]])
    shop.execute("DELETE FROM views WHERE item_id = %s", [first[0]])
    with shop.connect() as connection, connection.cursor() as cursor:
        watch(cursor, [(f"u{user}", "f-new") for user in range(USERS) if user != 3])
    connection.close()
    campaign = boto3.client("personalize").create_campaign(name="live", solutionVersionArn=newest(solution))
    empty.controls.set_clock(advance=60)
    retrained = run(RETRAIN, 3)
    assert retrained.state == "success"
    assert states(retrained)["update_campaigns"] == "success"
    assert run(NIGHTLY, 3).state == "success"
    second = emails(shop, "u3", 3)
    assert "f-new" in second
    assert first[0] not in second
    live = boto3.client("personalize").describe_campaign(campaignArn=campaign["campaignArn"])["campaign"]
    assert live["solutionVersionArn"] == newest(solution)


def approve(answer: str, typed: str) -> Callable[[Any], object]:
    """Return a change of the DAG: somebody answers, as soon as they are asked."""

    def change(dag: Any) -> None:
        task = dag.task_dict.get("approve")
        if task is None:  # Airflow before 3.1: the form has asked
            return
        event = {"chosen_options": [answer], "params_input": {"name": typed}, "responded_at": datetime.now(UTC)}
        event["responded_by_user"] = {"id": "1", "name": "somebody"}
        task.execute = lambda context: task.execute_complete(context, event)

    return change


def teardown(day: int, answer: str) -> Any:
    conf = {"dataset_group": GROUP}
    if "confirm" in load(TEARDOWN).params:
        conf["confirm"] = GROUP
    return run(TEARDOWN, day, change=approve(answer, GROUP), run_conf=conf)


def test_users_are_forgotten_and_all_is_torn_down(shop: Database, empty: LocalPersonalize) -> None:
    shop.execute(
        "CREATE TABLE forget_requests (user_id text, requested timestamptz, run_id text, forgotten timestamptz)"
    )
    assert run(SETUP, 1).state == "success"
    assert states(run(FORGET, 2)) == {
        "forget_here": "success",
        "list_users": "skipped",
        "forget_there": "skipped",
        "note": "skipped",
    }
    assert run(RETRAIN, 2).state == "success"
    # Tables that other examples have made; the last one is of items, which are nobody's.
    made = ("fallback_recommendations", "ranked_offers", "campaign_audience", "launch_audience")
    for table in made:
        shop.execute(f"CREATE TABLE {table} AS SELECT * FROM (VALUES ('u3'), ('u4')) AS listed (user_id)")
    shop.execute("CREATE TABLE on_demand AS SELECT 'f1' AS item_id")
    shop.execute("INSERT INTO forget_requests (user_id) VALUES ('u3'), ('u3'), ('nobody')")
    assert run(FORGET, 3).state == "success"
    [job] = [job for job in empty.controls.state()["jobs"] if job["kind"] == "DataDeletionJob"]
    assert (job["status"], job["numDeleted"]) == ("COMPLETED", 1 + sum(user == "u3" for user, _ in interactions()))
    assert shop.execute("SELECT count(*) FROM views WHERE user_id = 'u3'") == [(0,)]
    assert shop.execute("SELECT count(*) FROM subscribers WHERE user_id = 'u3'") == [(0,)]
    assert [shop.execute(f"SELECT user_id FROM {table}") for table in made] == [[("u4",)]] * len(made)
    assert shop.execute("SELECT count(*) FROM on_demand") == [(1,)]
    assert shop.execute("SELECT count(*) FROM forget_requests WHERE forgotten IS NULL") == [(0,)]

    client = boto3.client("personalize")
    [solution] = [arn for arn in account() if arn.endswith(":solution/user-personalization")]
    client.create_campaign(name="live", solutionVersionArn=newest(solution))
    client.create_event_tracker(
        name="site", datasetGroupArn=solution.replace(":solution/user-personalization", f":dataset-group/{GROUP}")
    )
    other = client.create_schema(name="other", schema=SCHEMAS["USERS"])["schemaArn"]
    empty.controls.set_clock(advance=60)
    before = account()
    with pytest.raises(AirflowFailException, match=f"Nothing was deleted: expected .* {GROUP!r}, got 'personalize'"):
        load(TEARDOWN).task_dict["confirm"].python_callable("personalize", params={"dataset_group": GROUP})
    if "approve" in load(TEARDOWN).task_dict:
        assert states(teardown(5, "Reject"))["delete_group"] == "skipped"
    assert account() == before
    done = teardown(6, "Approve")
    assert done.state == "success"
    assert list(account()) == [other]
    assert client.list_campaigns()["campaigns"] == client.list_event_trackers()["eventTrackers"] == []


def test_the_check_of_the_retraining_tells_structure_from_chance(empty: LocalPersonalize) -> None:
    empty.controls.set_clock(stopped=True)
    account = Account(empty)
    check = load(RETRAIN).get_task("check")
    for rows, is_good in ((interactions(), True), (interactions(shuffled=True), False)):
        group, version = account.trained(rows)
        baseline = account.solution(group, "popularity-count")
        account.train(baseline)
        operator = PersonalizeSolutionVersionCheckOperator(
            task_id="check",
            solution_version_arn=version,
            baseline_solution_arn=baseline,
            checks=check.checks,
            pass_tags=check.pass_tags,
        )
        [ratio] = [name for name in check.checks if name.endswith("_to_baseline")]
        if is_good:
            assert operator.execute(context())[ratio] > 2
        else:
            with pytest.raises(SolutionVersionCheckError, match=f"{ratio} is 0"):
                operator.execute(context())
        tags = account.personalize.list_tags_for_resource(resourceArn=version)["tags"]
        assert [tag["tagValue"] for tag in tags] == (["passed"] if is_good else [])
