"""The stand-in over HTTP, as boto3 sees it."""

from __future__ import annotations

import itertools
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError

from airflow_provider_personalize.local import LocalPersonalize
from airflow_provider_personalize.local.model import service_model
from airflow_provider_personalize.local.server import BUCKET, ROLE_ARN

NAMES = (f"job-{number}" for number in itertools.count())
JOB_SECONDS = 60


@pytest.fixture(scope="module")
def server() -> Iterator[LocalPersonalize]:
    with LocalPersonalize(port=0, job_seconds=JOB_SECONDS) as server:
        yield server


@pytest.fixture
def service(server: LocalPersonalize) -> LocalPersonalize:
    """The stand-in as if new, and with a clock that stands still."""
    server.controls.reset()
    server.controls.set_clock(stopped=True)
    return server


def client(service: LocalPersonalize, name: str = "personalize", region: str = "us-east-1") -> Any:
    return boto3.client(
        name,
        region_name=region,
        endpoint_url=service.url,
        config=Config(retries={"total_max_attempts": 1}),
    )


@pytest.fixture
def personalize(service: LocalPersonalize) -> Any:
    return client(service)


@pytest.fixture
def s3(service: LocalPersonalize) -> Any:
    return client(service, "s3")


def request(service: LocalPersonalize, solution: str = "user-personalization", **changes: Any) -> dict[str, Any]:
    name = next(NAMES)
    whole = {
        "jobName": name,
        "solutionVersionArn": service.solution_version_arns[solution],
        "jobInput": {"s3DataSource": {"path": f"s3://{BUCKET}/{name}/in/"}},
        "jobOutput": {"s3DataDestination": {"path": f"s3://{BUCKET}/{name}/out/"}},
        "roleArn": ROLE_ARN,
    }
    return whole | changes


def as_lines(*records: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def create(personalize: Any, request: dict[str, Any], kind: str = "inference") -> str:
    answer = getattr(personalize, f"create_batch_{kind}_job")(**request)
    return answer[f"batch{kind.title()}JobArn"]


def describe(personalize: Any, arn: str) -> dict[str, Any]:
    if ":batch-segment-job/" in arn:
        return personalize.describe_batch_segment_job(batchSegmentJobArn=arn)["batchSegmentJob"]
    return personalize.describe_batch_inference_job(batchInferenceJobArn=arn)["batchInferenceJob"]


def run(
    service: LocalPersonalize, solution: str, body: bytes, *, kind: str = "inference", **changes: Any
) -> tuple[dict[str, Any], bytes]:
    """Run a job over one input object from its creation to its end; give its description and its output."""
    s3, personalize = client(service, "s3"), client(service)
    wanted = request(service, solution, **changes)
    s3.put_object(Bucket=BUCKET, Key=f"{wanted['jobName']}/in/part.json", Body=body)
    arn = create(personalize, wanted, kind)
    service.controls.set_clock(advance=JOB_SECONDS)
    job = describe(personalize, arn)
    if job["status"] != "ACTIVE":
        return job, b""
    return job, s3.get_object(Bucket=BUCKET, Key=f"{wanted['jobName']}/out/part.json.out")["Body"].read()


def rows(output: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.decode().splitlines()]


def keys(s3: Any, prefix: str) -> list[str]:
    return [found["Key"] for found in s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", ())]


def skip_unless_known(changes: dict[str, Any]) -> None:
    """Skip the test where this botocore's model is older than a field of the request."""
    fields = (
        ("rankingInfluence", "RankingInfluence"),
        ("batchInferenceJobMode", "BatchInferenceJobMode"),
        ("themeGenerationConfig", "ThemeGenerationConfig"),
    )
    for field, shape in fields:
        if field in str(changes) and shape not in service_model().shape_names:
            pytest.skip(f"this botocore's model has no {shape}")


def code_of(caught: pytest.ExceptionInfo[ClientError]) -> tuple[str, str]:
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


# The life of a job


def test_a_job_from_creation_to_output(service: LocalPersonalize, personalize: Any, s3: Any) -> None:
    wanted = request(service, numResults=3, tags=[{"tagKey": "team", "tagValue": "news"}])
    name = wanted["jobName"]
    s3.put_object(Bucket=BUCKET, Key=f"{name}/in/users.json", Body=as_lines({"userId": "1"}, {"userId": "2"}))
    arn = create(personalize, wanted)
    assert arn == f"arn:aws:personalize:us-east-1:123456789012:batch-inference-job/{name}"
    statuses = []
    for advance in (0, 0.2 * JOB_SECONDS, 0.7 * JOB_SECONDS):
        service.controls.set_clock(advance=advance)
        statuses.append(describe(personalize, arn)["status"])
        assert keys(s3, f"{name}/out/") == []
    assert statuses == ["CREATE PENDING", "CREATE IN_PROGRESS", "CREATE IN_PROGRESS"]
    service.controls.set_clock(advance=0.2 * JOB_SECONDS)
    job = describe(personalize, arn)
    assert job["status"] == "ACTIVE"
    assert (job["lastUpdatedDateTime"] - job["creationDateTime"]).total_seconds() == pytest.approx(1.1 * JOB_SECONDS)
    sent = {key: value for key, value in wanted.items() if key != "tags"}
    assert {key: job[key] for key in sent} == sent
    assert job["batchInferenceJobMode"] == "BATCH_INFERENCE"
    assert keys(s3, f"{name}/out/") == [f"{name}/out/_CHECK", f"{name}/out/users.json.out"]
    assert personalize.list_tags_for_resource(resourceArn=arn)["tags"] == wanted["tags"]


def test_every_object_under_the_prefix_is_read_and_has_its_output(
    service: LocalPersonalize, personalize: Any, s3: Any
) -> None:
    name = next(NAMES)
    for key in ("in/a.json", "in/deep/b.jsonl", "in/empty.json", "in_next/c.json", "other/d.json"):
        body = b"" if "empty" in key else as_lines({"userId": key})
        s3.put_object(Bucket=BUCKET, Key=f"{name}/{key}", Body=body)
    s3.put_object(Bucket=BUCKET, Key=f"{name}/in/", Body=b"")
    create(
        personalize,
        request(
            service,
            jobInput={"s3DataSource": {"path": f"s3://{BUCKET}/{name}/in"}},
            jobOutput={"s3DataDestination": {"path": f"s3://{BUCKET}/{name}/out"}},
        ),
    )
    service.controls.set_clock(advance=JOB_SECONDS)
    written = {key.removeprefix(f"{name}/out/") for key in keys(s3, f"{name}/out")}
    assert written == {"a.json.out", "b.jsonl.out", "c.json.out", "empty.json.out", "_CHECK"}
    for key, user in (("a.json", "in/a.json"), ("b.jsonl", "in/deep/b.jsonl"), ("c.json", "in_next/c.json")):
        output = s3.get_object(Bucket=BUCKET, Key=f"{name}/out/{key}.out")["Body"].read()
        assert [row["input"] for row in rows(output)] == [{"userId": user}]


@pytest.mark.parametrize(
    ("objects", "path", "reason"),
    [
        ((), f"s3://{BUCKET}/nothing-here/", "No input was found at s3://personalize-local/nothing-here/."),
        ((), "s3://no-such-bucket/in/", "Insufficient privileges for accessing data in Amazon S3."),
        (("same/a/x.json", "same/b/x.json"), f"s3://{BUCKET}/same/", "have the same name, and so would their output"),
    ],
)
def test_input_that_fails_the_job(
    service: LocalPersonalize, personalize: Any, s3: Any, objects: tuple[str, ...], path: str, reason: str
) -> None:
    for key in objects:
        s3.put_object(Bucket=BUCKET, Key=key, Body=as_lines({"userId": "1"}))
    wanted = request(service, jobInput={"s3DataSource": {"path": path}})
    arn = create(personalize, wanted)
    service.controls.set_clock(advance=JOB_SECONDS)
    job = describe(personalize, arn)
    assert job["status"] == "CREATE FAILED"
    assert reason in job["failureReason"]
    assert keys(s3, f"{wanted['jobName']}/out/") == []


def test_an_output_bucket_that_does_not_exist_fails_the_job(service: LocalPersonalize) -> None:
    job, _ = run(
        service,
        "user-personalization",
        as_lines({"userId": "1"}),
        jobOutput={"s3DataDestination": {"path": "s3://no-such-bucket/out/"}},
    )
    assert job["status"] == "CREATE FAILED"
    assert job["failureReason"].startswith("Insufficient privileges for accessing data in Amazon S3.")


@pytest.mark.parametrize(
    ("solution", "line", "most"),
    [
        ("item-affinity", {"itemId": "1"}, 500),
        ("item-attribute-affinity", {"itemAttributes": 'ITEMS.genres = "War"'}, 10),
    ],
)
def test_the_recipes_quota_of_lines(service: LocalPersonalize, solution: str, line: dict[str, str], most: int) -> None:
    job, output = run(service, solution, as_lines(*[line] * most), kind="segment", numResults=1)
    assert (job["status"], len(rows(output))) == ("ACTIVE", most)
    job, _ = run(service, solution, as_lines(*[line] * (most + 1)), kind="segment", numResults=1)
    assert job["status"] == "CREATE FAILED"
    assert f"at most {most} records" in job["failureReason"]


# What the recipes answer


def titles(service: LocalPersonalize, ids: list[str]) -> list[str]:
    items = service.recommender.data.items
    return [items.columns["TITLE"][items.index[id_]] for id_ in ids]


def test_user_personalization(service: LocalPersonalize) -> None:
    users = [str(number) for number in range(1, 672)]
    _, output = run(service, "user-personalization", as_lines(*({"userId": user} for user in [*users, "nobody"])))
    first = output.splitlines()[0]
    assert first.startswith(b'{"input":{"userId":"1"},"output":{"recommendedItems":["')
    assert first.endswith(b']},"error":null}')
    answered = rows(output)
    data = service.recommender.data
    known = {
        user: set(data.items.ids[service.recommender.known_items(data.users.index[user])].tolist()) for user in users
    }
    for row in answered:
        items, scores = row["output"]["recommendedItems"], row["output"]["scores"]
        assert len(items) == len(set(items)) == len(scores) == 25
        assert scores == sorted(scores, reverse=True)
        assert 0 < sum(scores) < 1
        assert not set(items) & known.get(row["input"]["userId"], set())
    assert len({tuple(row["output"]["recommendedItems"][:5]) for row in answered}) > 500
    assert titles(service, answered[-1]["output"]["recommendedItems"][:3]) == [
        "Forrest Gump",
        "Pulp Fiction",
        "Shawshank Redemption, The",
    ]


def test_recommendations_foretell_what_users_like(service: LocalPersonalize) -> None:
    """Hide a fifth of the ratings: the model finds far more of them than a list of popular films does."""
    import numpy as np

    from airflow_provider_personalize.local.data import Dataset
    from airflow_provider_personalize.local.recommend import Recommender

    data = service.recommender.data
    hidden = np.random.default_rng(1).random(data.weights.nnz) < 0.2
    shown, held = data.weights.copy(), data.weights.copy()
    shown.data[hidden], held.data[~hidden] = 0, 0
    shown.eliminate_zeros()
    held.eliminate_zeros()
    recommender = Recommender(Dataset("test", data.users, data.items, shown))
    hits = popular_hits = 0
    for user, id_ in enumerate(data.users.ids.tolist()):
        wanted = set(held.indices[held.indptr[user] : held.indptr[user + 1]].tolist())
        unseen = np.ones(len(data.items), dtype=bool)
        unseen[recommender.known_items(user)] = False
        hits += len(wanted & set(recommender.for_user(id_, 10, unseen, hide_known=False).positions.tolist()))
        popular_hits += len(wanted & set(recommender.popular(10, unseen).positions.tolist()))
    assert hits > 1.5 * popular_hits > 0


def test_popularity(service: LocalPersonalize) -> None:
    _, output = run(service, "popularity-count", as_lines({"userId": "1"}, {}, {"itemId": "105"}), numResults=3)
    assert rows(output) == [
        {"input": line, "output": {"recommendedItems": ["356", "296", "318"]}, "error": None}
        for line in ({"userId": "1"}, {}, {"itemId": "105"})
    ]


def test_personalized_ranking(service: LocalPersonalize) -> None:
    asked = ["27", "886", "no-such-film", "260", "1196"]
    _, output = run(
        service,
        "personalized-ranking",
        as_lines({"userId": "1", "itemList": asked}, {"userId": "2", "itemList": asked}, {"userId": "1"}),
    )
    first, second, failed = rows(output)
    for row in (first, second):
        assert row["input"]["itemList"] == asked
        assert sorted(row["output"]["recommendedItems"]) == sorted(asked)
        assert row["output"]["scores"] == sorted(row["output"]["scores"], reverse=True)
        assert sum(row["output"]["scores"]) == pytest.approx(1, abs=1e-5)
        assert (row["output"]["recommendedItems"][-1], row["output"]["scores"][-1]) == ("no-such-film", 0)
    assert first["output"]["scores"] != second["output"]["scores"]
    assert failed["error"] == "User error: Required fields for the provided recipe are userId, itemList"


@pytest.mark.parametrize("solution", ["similar-items", "sims"])
def test_related_items(service: LocalPersonalize, solution: str) -> None:
    _, output = run(service, solution, as_lines({"itemId": "260"}, {"itemId": "50"}), numResults=10)
    assert b'"scores"' not in output
    star_wars, usual_suspects = (row["output"]["recommendedItems"] for row in rows(output))
    assert {"1196", "1210"} <= set(star_wars[:3])
    assert "260" not in star_wars
    assert len(usual_suspects) == len(set(usual_suspects)) == 10
    assert "Pulp Fiction" in titles(service, usual_suspects)


def test_themes(service: LocalPersonalize) -> None:
    themed = {
        "batchInferenceJobMode": "THEME_GENERATION",
        "themeGenerationConfig": {"fieldsForThemeGeneration": {"itemName": "TITLE"}},
    }
    skip_unless_known(themed)
    job, output = run(service, "similar-items", as_lines({"itemId": "1"}), numResults=5, **themed)
    assert job["batchInferenceJobMode"] == "THEME_GENERATION"
    (row,) = rows(output)
    assert set(row["output"]) == {"recommendedItems", "theme", "itemsThemeRelevanceScores"}
    items, scores = row["output"]["recommendedItems"], row["output"]["itemsThemeRelevanceScores"]
    assert len(items) == len(scores) == 5
    themed_items = [any(genre in row["output"]["theme"] for genre in genres(service, id_)) for id_ in items]
    assert [score > 0 for score in scores] == themed_items
    assert sum(themed_items) >= 3
    job, output = run(service, "similar-items", as_lines({"itemId": "1"}, {"itemId": "260"}), numResults=100, **themed)
    _, plain = run(service, "similar-items", as_lines({"itemId": "1"}, {"itemId": "260"}), numResults=100)
    for row, other in zip(rows(output), rows(plain), strict=True):
        relevance = row["output"]["itemsThemeRelevanceScores"]
        assert relevance == sorted(relevance, reverse=True)
        assert 0.5 <= relevance[0] <= 0.65
        assert -0.15 <= relevance[-1] <= 0
        assert sorted(row["output"]["recommendedItems"]) == sorted(other["output"]["recommendedItems"])
    job, _ = run(service, "similar-items", as_lines(*[{"itemId": "1"}] * 101), **themed)
    assert job["failureReason"].startswith("Expected at most 100 items in a job with themes, found 101")
    s3, wanted = client(service, "s3"), request(service, "similar-items", **themed)
    for name in ("a", "b"):
        lines = as_lines(*[{"itemId": "1"}] * 51)
        s3.put_object(Bucket=BUCKET, Key=f"{wanted['jobName']}/in/{name}.json", Body=lines)
    arn = create(client(service), wanted)
    service.controls.set_clock(advance=JOB_SECONDS)
    assert describe(client(service), arn)["failureReason"].endswith(f"/{wanted['jobName']}/in/.")


def test_item_affinity(service: LocalPersonalize) -> None:
    body = as_lines({"itemId": "260"}, {"itemId": "no-such-film"})
    _, output = run(service, "item-affinity", body, kind="segment", numResults=100)
    first = output.splitlines()[0]
    assert first.startswith(b'{"input": {"itemId": "260"}, "output": {"usersList": ["')
    assert first.endswith(b'"]}, "error": null}')
    # As recorded: no space between the ids, spaces everywhere else.
    assert json.dumps(rows(output)[0]["output"]["usersList"], separators=(",", ":")).encode() in first
    fans, nobody = (row["output"]["usersList"] for row in rows(output))
    assert len(fans) == len(set(fans)) == 100
    data = service.recommender.data
    met = set(data.users.ids[data.weights[:, data.items.index["260"]].nonzero()[0]].tolist())
    assert len(met & set(fans)) > 80  # of 671 users, 291 have rated Star Wars
    assert nobody == []


def test_item_attribute_affinity(service: LocalPersonalize) -> None:
    body = as_lines(
        {"itemAttributes": 'ITEMS.genres = "Comedy" AND ITEMS.genres = "Action"'},
        {"itemAttributes": "ITEMS.year = 1995"},
        {"itemAttributes": 'ITEMS.genres = "No such genre"'},
        {"itemAttributes": 'ITEMS.genres IN ("Comedy")'},
        {"itemAttributes": 'ITEMS.colour = "red"'},
    )
    _, output = run(service, "item-attribute-affinity", body, kind="segment")
    both, year, none, grammar, column = rows(output)
    assert len(both["output"]["usersList"]) == len(year["output"]["usersList"]) == 25
    assert both["output"]["usersList"] != year["output"]["usersList"]
    assert (none["output"], none["error"]) == ({"usersList": []}, None)
    assert grammar["error"].startswith("User error: itemAttributes: expected = at character 14")
    assert column["error"].startswith("User error: ITEMS.COLOUR: no such column; there are GENRES, TITLE, YEAR")


def test_a_segment_of_everyone(service: LocalPersonalize) -> None:
    _, output = run(service, "item-affinity", as_lines({"itemId": "1"}), kind="segment", numResults=5_000_000)
    assert sorted(rows(output)[0]["output"]["usersList"], key=int) == [str(number) for number in range(1, 672)]


def test_every_id_comes_back_as_it_was(service: LocalPersonalize) -> None:
    ids = [
        "é",
        "鬼滅の刃",
        "🎬🍿",
        'quo"te',
        "back\\slash",
        "tab\t",
        "new\nline",
        "\x01\x7f\u2028",
        " ",
        "'",
        "\N{MATHEMATICAL DOUBLE-STRUCK CAPITAL X}" * 256,
        ",",
    ]
    records = [{"userId": id_, "itemList": ids} for id_ in ids]
    for escaped in (True, False):
        body = b"".join(json.dumps(record, ensure_ascii=escaped).encode() + b"\r\n" for record in records)
        _, output = run(service, "personalized-ranking", body)
        lines = output.split(b"\n")
        assert lines.pop() == b""
        assert [json.loads(line)["input"] for line in lines] == records
        assert all(set(json.loads(line)["output"]["recommendedItems"]) == set(ids) for line in lines)
    _, output = run(service, "user-personalization", b'{"userId": "half \\ud83d"}')
    assert rows(output)[0]["input"] == {"userId": "half \ud83d"}


def test_what_is_wrong_with_a_line_is_said_in_its_output(service: LocalPersonalize) -> None:
    body = b'{"userId": "1"}\n\nnot json\n[1]\n{"userId": 7}\n{"itemId": "7"}\n{"userId": "2"}'
    job, output = run(service, "user-personalization", body, numResults=1)
    assert job["status"] == "ACTIVE"
    found = [(row["input"], len(row["output"]["recommendedItems"]), row["error"]) for row in rows(output)]
    required = "User error: Required fields for the provided recipe are userId"
    assert found == [
        ({"userId": "1"}, 1, None),
        ("not json", 0, "User error: The record is not valid JSON"),
        ("[1]", 0, "User error: The record is not a JSON object"),
        ({"userId": 7}, 0, required),
        ({"itemId": "7"}, 0, required),
        ({"userId": "2"}, 1, None),
    ]


def test_every_recipe_has_a_solution_that_answers(service: LocalPersonalize, personalize: Any) -> None:
    from airflow_provider_personalize.service.recipes import RECIPES

    by_recipe: dict[str, list[str]] = {}
    for name, arn in service.solution_arns.items():
        recipe = personalize.describe_solution(solutionArn=arn)["solution"]["recipeArn"].rpartition("/")[2]
        by_recipe.setdefault(recipe, []).append(name)
    assert {*RECIPES, "aws-semantic-similarity"} == set(by_recipe)
    line = {"userId": "1", "itemId": "260", "itemList": ["1", "2"], "itemAttributes": "ITEMS.YEAR = 1995"}
    kinds = {"aws-item-affinity": "segment", "aws-item-attribute-affinity": "segment"}
    for recipe, names in by_recipe.items():
        if recipe in ("aws-trending-now", "aws-next-best-action"):
            with pytest.raises(ClientError, match="does not support batch recommendations"):
                run(service, names[0], b"{}")
            continue
        kind = kinds.get(recipe, "inference")
        _, output = run(service, names[0], as_lines(line), kind=kind, numResults=2)
        (row,) = rows(output)
        assert row["error"] is None
        assert len(row["output"]["usersList" if kind == "segment" else "recommendedItems"]) == 2


def test_items_of_which_the_same_is_said(service: LocalPersonalize) -> None:
    _, output = run(service, "semantic-similarity", as_lines({"itemId": "260"}, {"itemId": "no-such"}), numResults=5)
    assert b'"scores"' not in output
    star_wars, unknown = (titles(service, row["output"]["recommendedItems"]) for row in rows(output))
    assert sum(title.startswith("Star Wars") for title in star_wars) >= 4
    assert unknown[0] == "Forrest Gump"


def test_lines_that_json_cannot_echo(service: LocalPersonalize) -> None:
    deep = b'{"userId": "1", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    body = b'{"userId": "1", "x": NaN}\n{"userId": "1", "x": 1e999}\n' + deep + b'\n{"userId": "1"}\n'
    job, output = run(service, "user-personalization", body, numResults=1)
    assert job["status"] == "ACTIVE"
    invalid = "User error: The record is not valid JSON"
    lines = output.decode().splitlines()
    assert [json.loads(line, parse_constant=pytest.fail)["error"] for line in lines] == [invalid] * 3 + [None]
    # Somewhere in between, a line can be read and its output not be written.
    body = b"".join(b'{"userId": "1", "x": ' + b"[" * depth + b"]" * depth + b"}\n" for depth in range(850, 1_010))
    job, output = run(service, "user-personalization", body, numResults=1)
    assert job["status"] == "ACTIVE"
    assert {row.split(b'"error":')[-1] for row in output.splitlines()} <= {b"null}", f'"{invalid}"}}'.encode()}
    assert len(output.splitlines()) == 160


@pytest.mark.parametrize("wrong", [7, None, [], {}, ["27"]])
def test_a_ranking_of_what_is_no_id(service: LocalPersonalize, wrong: Any) -> None:
    _, output = run(service, "personalized-ranking", as_lines({"userId": "1", "itemList": [wrong, "27", wrong]}))
    (row,) = rows(output)
    assert (row["error"], row["output"]["recommendedItems"]) == (None, ["27", wrong])


# Filters


def genres(service: LocalPersonalize, id_: str) -> set[str]:
    items = service.recommender.data.items
    return set(items.cell("GENRES", items.index[id_]))


def test_a_filter_with_values_in_each_line(service: LocalPersonalize) -> None:
    body = as_lines(
        {"userId": "1", "filterValues": {"GENRES": '"Horror"'}},
        {"userId": "1", "filterValues": {"GENRES": '"Western","Musical"'}},
        {"userId": "1", "filterValues": {"GENRES": '"No such genre"'}},
        {"userId": "1"},
    )
    _, output = run(service, "user-personalization", body, filterArn=service.filter_arns["genres"])
    horror, two, none, missing = rows(output)
    assert len(horror["output"]["recommendedItems"]) == 25
    assert all("Horror" in genres(service, id_) for id_ in horror["output"]["recommendedItems"])
    assert all({"Western", "Musical"} & genres(service, id_) for id_ in two["output"]["recommendedItems"])
    assert two["input"]["filterValues"] == {"GENRES": '"Western","Musical"'}
    assert (none["output"], none["error"]) == ({"recommendedItems": [], "scores": []}, None)
    assert "expected values for the filter's GENRES" in missing["error"]


def test_a_filter_of_ones_own(service: LocalPersonalize, personalize: Any) -> None:
    group = personalize.list_solutions()["solutions"][0]
    group = personalize.describe_solution(solutionArn=group["solutionArn"])["solution"]["datasetGroupArn"]
    expression = (
        'EXCLUDE ItemID WHERE Items.GENRES IN ("Drama", "Comedy") OR Items.YEAR < 1990'
        ' | INCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ("*")'
    )
    arn = personalize.create_filter(name="mine", datasetGroupArn=group, filterExpression=expression)["filterArn"]
    described = personalize.describe_filter(filterArn=arn)["filter"]
    assert (described["filterExpression"], described["status"]) == (expression, "ACTIVE")
    assert personalize.list_filters()["Filters"][0]["name"] == "mine"
    _, output = run(service, "user-personalization", as_lines({"userId": "15"}), filterArn=arn)
    data = service.recommender.data
    known = set(data.items.ids[service.recommender.known_items(data.users.index["15"])].tolist())
    found = rows(output)[0]["output"]["recommendedItems"]
    assert len(found) == 25
    assert set(found) <= known
    assert not any({"Drama", "Comedy"} & genres(service, id_) for id_ in found)
    with pytest.raises(ClientError) as caught:
        personalize.create_filter(name="mine", datasetGroupArn=group, filterExpression=expression)
    assert code_of(caught)[0] == "ResourceAlreadyExistsException"
    for wrong in (
        "EXCLUDE",
        'EXCLUDE ItemID WHERE Items.COLOUR IN ("red")',
        "INCLUDE ItemID WHERE Users.ACTIVITY = $A",
    ):
        with pytest.raises(ClientError) as caught:
            personalize.create_filter(name="wrong", datasetGroupArn=group, filterExpression=wrong)
        assert code_of(caught)[0] == "InvalidInputException"


def test_a_filter_of_users(service: LocalPersonalize) -> None:
    body = as_lines({"itemId": "260", "filterValues": {"ACTIVITY": '"low"'}})
    arn = service.filter_arns["activity"]
    _, output = run(service, "item-affinity", body, kind="segment", numResults=1000, filterArn=arn)
    data = service.recommender.data
    users = rows(output)[0]["output"]["usersList"]
    assert len(users) == 224
    most = max(len(service.recommender.known_items(data.users.index[user])) for user in users)
    assert most <= sorted(len(service.recommender.known_items(user)) for user in range(671))[224]
    with pytest.raises(ClientError) as caught:
        run(service, "user-personalization", as_lines({"userId": "1"}), filterArn=arn)
    assert code_of(caught) == (
        "InvalidInputException",
        "A batch inference job takes a filter of ITEMID, this one is of USERID.",
    )


def new_filter(service: LocalPersonalize, expression: str) -> str:
    personalize = client(service)
    group = personalize.describe_filter(filterArn=service.filter_arns["genres"])["filter"]["datasetGroupArn"]
    return personalize.create_filter(name=next(NAMES), datasetGroupArn=group, filterExpression=expression)["filterArn"]


def test_what_a_user_has_bought_is_left_out(service: LocalPersonalize) -> None:
    data = service.recommender.data
    events = data.interactions
    own = events.of(data.users.index["15"])
    types = events.columns["EVENT_TYPE"][own]
    bought = set(data.items.ids[events.items[own[types == "Purchase"]]].tolist())
    watched = set(data.items.ids[events.items[own[types == "Watch"]]].tolist())
    body = as_lines({"userId": "15"})
    for expression, allowed in (
        ('INCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ("Purchase")', bought),
        ('INCLUDE ItemID WHERE interactions.event_type IN ("watch")', watched),
        (
            (
                'EXCLUDE ItemID WHERE Items.YEAR < 1990 | INCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ("Purchase")'
                ' | INCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ("Watch")'
            ),
            {id_ for id_ in bought | watched if int(year(service, id_) or 0) >= 1990},
        ),
    ):
        for solution in ("user-personalization", "popularity-count"):
            _, output = run(service, solution, body, filterArn=new_filter(service, expression), numResults=500)
            found = rows(output)[0]["output"]["recommendedItems"]
            assert len(found) == min(len(allowed), 500)
            assert set(found) <= allowed
    arn = new_filter(service, 'EXCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ("Purchase")')
    _, output = run(service, "user-personalization", body, filterArn=arn, numResults=500)
    found = set(rows(output)[0]["output"]["recommendedItems"])
    assert not found & bought
    assert found & watched


def year(service: LocalPersonalize, id_: str) -> str:
    items = service.recommender.data.items
    return str(items.columns["YEAR"][items.index[id_]])


def test_a_filter_by_the_current_item(service: LocalPersonalize) -> None:
    arn = new_filter(
        service, "INCLUDE ItemID WHERE Items.GENRES IN CurrentItem.GENRES AND Items.YEAR < CurrentItem.YEAR"
    )
    _, output = run(service, "similar-items", as_lines({"itemId": "260"}, {"itemId": "1"}), filterArn=arn)
    for row in rows(output):
        item, found = row["input"]["itemId"], row["output"]["recommendedItems"]
        assert len(found) == 25
        assert all(genres(service, id_) & genres(service, item) for id_ in found)
        assert all(int(year(service, id_)) < int(year(service, item)) for id_ in found)
    with pytest.raises(ClientError, match="CurrentItem needs a recipe for related items"):
        run(service, "user-personalization", as_lines({"userId": "1"}), filterArn=arn)


def test_a_filter_that_depends_on_the_current_user(service: LocalPersonalize) -> None:
    arn = new_filter(service, 'INCLUDE ItemID WHERE Items.GENRES IN ("War") IF CurrentUser.ACTIVITY = $ACTIVITY')
    activity = dict(
        zip(service.recommender.data.users.ids, service.recommender.data.users.columns["ACTIVITY"], strict=False)
    )
    lines = [{"userId": str(user), "filterValues": {"ACTIVITY": '"high"'}} for user in range(1, 30)]
    _, output = run(service, "user-personalization", as_lines(*lines), filterArn=arn)
    for row in rows(output):
        war = ["War" in genres(service, id_) for id_ in row["output"]["recommendedItems"]]
        assert all(war) == (activity[row["input"]["userId"]] == "high")


def test_a_filter_of_users_by_what_they_did(service: LocalPersonalize) -> None:
    events = service.recommender.data.interactions
    buyers = set(service.recommender.data.users.ids[events.users[events.columns["EVENT_VALUE"] == "0.5"]].tolist())
    arn = new_filter(service, "INCLUDE UserID WHERE Interactions.EVENT_VALUE <= 0.5")
    _, output = run(
        service, "item-affinity", as_lines({"itemId": "260"}), kind="segment", numResults=1000, filterArn=arn
    )
    assert set(rows(output)[0]["output"]["usersList"]) == buyers
    assert 0 < len(buyers) < 671
    with pytest.raises(ClientError, match="takes no filter that speaks of Interactions"):
        run(
            service,
            "item-attribute-affinity",
            as_lines({"itemAttributes": "ITEMS.YEAR = 1995"}),
            kind="segment",
            filterArn=arn,
        )


# What is refused


def other(arn: str) -> str:
    return arn[:-1] + ("0" if arn[-1] != "0" else "1")


@pytest.mark.parametrize(
    ("solution", "changes", "code", "message"),
    [
        ("user-personalization", {"jobName": "a b"}, "InvalidInputException", "regular expression pattern"),
        ("user-personalization", {"numResults": 501}, "InvalidInputException", "numResults must be from 1 to 500"),
        ("user-personalization", {"numResults": 0}, "InvalidInputException", "numResults must be from 1 to 500"),
        ("user-personalization", {"roleArn": "me"}, "InvalidInputException", "at 'roleArn'"),
        (
            "user-personalization",
            {"jobInput": {"s3DataSource": {"path": "https://b/in/"}}},
            "InvalidInputException",
            "expected an S3 URI",
        ),
        (
            "user-personalization",
            {"tags": [{"tagKey": "a", "tagValue": "1"}, {"tagKey": "a", "tagValue": "2"}]},
            "InvalidInputException",
            "twice",
        ),
        (
            "user-personalization",
            {"tags": [{"tagKey": str(number), "tagValue": ""} for number in range(201)]},
            "TooManyTagsException",
            "at most 200",
        ),
        (
            "user-personalization",
            {"batchInferenceJobConfig": {"itemExplorationConfig": {"explorationWeight": "1.5"}}},
            "InvalidInputException",
            "explorationWeight must be a number from 0 to 1.0, got '1.5'",
        ),
        (
            "sims",
            {"batchInferenceJobConfig": {"itemExplorationConfig": {"explorationWeight": "0.5"}}},
            "InvalidInputException",
            "does not apply to the recipe aws-sims",
        ),
        (
            "user-personalization",
            {"batchInferenceJobConfig": {"rankingInfluence": {"POPULARITY": 2.0}}},
            "InvalidInputException",
            "less than or equal to 1",
        ),
        (
            "sims",
            {"batchInferenceJobMode": "THEME_GENERATION"},
            "InvalidInputException",
            "Themes need the recipe aws-similar-items",
        ),
        (
            "similar-items",
            {"batchInferenceJobMode": "THEME_GENERATION"},
            "InvalidInputException",
            "needs a themeGenerationConfig",
        ),
        (
            "similar-items",
            {
                "batchInferenceJobMode": "THEME_GENERATION",
                "themeGenerationConfig": {"fieldsForThemeGeneration": {"itemName": "COLOUR"}},
            },
            "InvalidInputException",
            "no column COLOUR",
        ),
        ("trending-now", {}, "InvalidInputException", "aws-trending-now does not support batch recommendations"),
        ("next-best-action", {}, "InvalidInputException", "does not support batch recommendations"),
        ("item-affinity", {}, "InvalidInputException", "needs a batch segment job, not a batch inference job"),
    ],
)
def test_requests_that_are_refused(
    service: LocalPersonalize, personalize: Any, solution: str, changes: dict[str, Any], code: str, message: str
) -> None:
    skip_unless_known(changes)
    with pytest.raises(ClientError) as caught:
        create(personalize, request(service, solution, **changes))
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert code_of(caught)[0] == code
    assert message in code_of(caught)[1]
    assert service.controls.state()["jobs"] == []


def test_what_does_not_exist(service: LocalPersonalize, personalize: Any) -> None:
    version = service.solution_version_arns["sims"]
    job = "arn:aws:personalize:us-east-1:123456789012:batch-inference-job/none"
    calls = [
        lambda: create(personalize, request(service, solutionVersionArn=other(version))),
        lambda: create(personalize, request(service, filterArn=other(service.filter_arns["genres"]))),
        lambda: personalize.describe_batch_inference_job(batchInferenceJobArn=job),
        lambda: personalize.describe_batch_segment_job(batchSegmentJobArn=version),
        lambda: personalize.describe_solution(solutionArn=version),
        lambda: personalize.describe_solution_version(solutionVersionArn=other(version)),
        lambda: personalize.list_solution_versions(solutionArn=other(version)),
        lambda: personalize.describe_recipe(recipeArn="arn:aws:personalize:::recipe/none"),
        lambda: personalize.describe_filter(filterArn=job),
        lambda: personalize.list_tags_for_resource(resourceArn=job),
    ]
    for call in calls:
        with pytest.raises(ClientError) as caught:
            call()
        assert code_of(caught)[0] == "ResourceNotFoundException"


def test_operations_that_it_does_not_have(personalize: Any, service: LocalPersonalize) -> None:
    with pytest.raises(ClientError) as caught:
        personalize.describe_algorithm(algorithmArn="arn:aws:personalize:::algorithm/aws-sims")
    assert code_of(caught)[0] == "UnknownOperationException"
    assert "The local stand-in does not have DescribeAlgorithm; it has CreateBatchInferenceJob" in code_of(caught)[1]


def test_a_segment_job_takes_millions_of_results(service: LocalPersonalize, personalize: Any) -> None:
    with pytest.raises(ClientError) as caught:
        create(personalize, request(service, "item-affinity", numResults=5_000_001), "segment")
    assert "numResults must be from 1 to 5000000" in code_of(caught)[1]
    with pytest.raises(ClientError, match="needs a batch inference job, not a batch segment job"):
        create(personalize, request(service, "sims"), "segment")


def test_a_name_is_taken_for_good(service: LocalPersonalize, personalize: Any) -> None:
    wanted = request(service)
    arn = create(personalize, wanted)
    service.controls.set_clock(advance=JOB_SECONDS)
    assert describe(personalize, arn)["status"] == "CREATE FAILED"  # there is no input
    for _ in range(2):
        with pytest.raises(ClientError) as caught:
            create(personalize, wanted)
        assert code_of(caught)[0] == "ResourceAlreadyExistsException"
    # Another kind and another region have names of their own.
    create(personalize, wanted | {"solutionVersionArn": service.solution_version_arns["item-affinity"]}, "segment")
    elsewhere = client(service, region="eu-west-1")
    version = wanted["solutionVersionArn"].replace("us-east-1", "eu-west-1")
    assert ":eu-west-1:" in create(elsewhere, wanted | {"solutionVersionArn": version})


def test_the_quota(service: LocalPersonalize, personalize: Any) -> None:
    for _ in range(5):
        create(personalize, request(service))
    with pytest.raises(ClientError) as caught:
        create(personalize, request(service))
    assert code_of(caught) == (
        "LimitExceededException",
        "More than 5 resources with PENDING or IN_PROGRESS status.",
    )
    create(personalize, request(service, "item-affinity"), "segment")
    service.controls.set_clock(advance=JOB_SECONDS)
    create(personalize, request(service))
    assert service.controls.state()["most_running"] == {"BatchInferenceJob": 5, "BatchSegmentJob": 1}


# Solutions and lists


def test_solutions_and_their_versions(service: LocalPersonalize, personalize: Any) -> None:
    solutions = {row["name"]: row for row in personalize.list_solutions()["solutions"]}
    assert {"user-personalization", "popularity-count", "personalized-ranking", "similar-items", "sims"} < set(
        solutions
    )
    assert {"item-affinity", "item-attribute-affinity", "trending-now", "next-best-action"} < set(solutions)
    for name, row in solutions.items():
        solution = personalize.describe_solution(solutionArn=row["solutionArn"])["solution"]
        assert solution["name"] == name
        recipe = personalize.describe_recipe(recipeArn=solution["recipeArn"])["recipe"]
        assert recipe["recipeArn"] == solution["recipeArn"] == row["recipeArn"]
        version = personalize.describe_solution_version(solutionVersionArn=service.solution_version_arns[name])
        assert version["solutionVersion"]["solutionArn"] == row["solutionArn"]
        assert version["solutionVersion"]["recipeArn"] == recipe["recipeArn"]
        assert version["solutionVersion"]["status"] == "ACTIVE"
    assert len(personalize.list_recipes()["recipes"]) >= 10


def test_the_solution_that_is_retrained_every_week(service: LocalPersonalize, personalize: Any) -> None:
    arn = service.solution_arns["retrained-weekly"]
    versions = personalize.list_solution_versions(solutionArn=arn)["solutionVersions"]
    by_age = sorted(versions, key=lambda version: version["creationDateTime"])
    assert [version["status"] for version in by_age] == ["ACTIVE", "ACTIVE", "CREATE FAILED", "CREATE IN_PROGRESS"]
    assert by_age[2]["failureReason"]
    latest = personalize.describe_solution(solutionArn=arn)["solution"]["latestSolutionVersion"]
    assert latest["solutionVersionArn"] == by_age[3]["solutionVersionArn"]
    assert service.solution_version_arns["retrained-weekly"] == by_age[1]["solutionVersionArn"]
    for version in by_age[2:]:
        with pytest.raises(ClientError) as caught:
            create(personalize, request(service, solutionVersionArn=version["solutionVersionArn"]))
        assert code_of(caught)[0] == "ResourceInUseException"
    paged = personalize.get_paginator("list_solution_versions").paginate(
        solutionArn=arn, PaginationConfig={"PageSize": 1}
    )
    assert [page["solutionVersions"][0] for page in paged] == versions


def test_lists_page_and_new_jobs_do_not_shift_them(personalize: Any) -> None:
    with LocalPersonalize(port=0, job_seconds=600, quota=500) as service:
        personalize = client(service)
        version = service.solution_version_arns["sims"]
        first = [create(personalize, request(service, "sims")) for _ in range(105)]
        others = [create(personalize, request(service, "similar-items")) for _ in range(3)]
        answer = personalize.list_batch_inference_jobs(solutionVersionArn=version)
        assert len(answer["batchInferenceJobs"]) == 100
        create(personalize, request(service, "sims"))
        rest = personalize.list_batch_inference_jobs(solutionVersionArn=version, nextToken=answer["nextToken"])
        assert "nextToken" not in rest
        listed = [row["batchInferenceJobArn"] for row in answer["batchInferenceJobs"] + rest["batchInferenceJobs"]]
        assert listed == first[::-1]
        row = answer["batchInferenceJobs"][0]
        assert set(row) == {
            "batchInferenceJobArn",
            "jobName",
            "status",
            "creationDateTime",
            "lastUpdatedDateTime",
            "solutionVersionArn",
        }
        pages = list(personalize.get_paginator("list_batch_inference_jobs").paginate(PaginationConfig={"PageSize": 50}))
        assert [len(page["batchInferenceJobs"]) for page in pages] == [50, 50, 9]
        assert {row["batchInferenceJobArn"] for page in pages for row in page["batchInferenceJobs"]} > set(others)
        for token in ("nonsense", "%%%", "YWZ0ZXI6eA=="):
            with pytest.raises(ClientError) as caught:
                personalize.list_batch_inference_jobs(nextToken=token)
            assert code_of(caught)[0] == "InvalidNextTokenException"
        with pytest.raises(ClientError) as caught:
            personalize.list_batch_inference_jobs(maxResults=101)
        assert code_of(caught)[0] == "InvalidInputException"


def test_each_region_answers(service: LocalPersonalize) -> None:
    for region, partition in (("ap-northeast-1", "aws"), ("cn-north-1", "aws-cn")):
        solutions = client(service, region=region).list_solutions()["solutions"]
        assert {row["solutionArn"].split(":")[1] for row in solutions} == {partition}
        assert {row["solutionArn"].split(":")[3] for row in solutions} == {region}


# Bad nights


def control(service: LocalPersonalize, method: str, name: str, body: Any = None) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(f"{service.url}/_local/{name}", data, method=method)
    try:
        with urllib.request.urlopen(asked) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


@pytest.mark.parametrize(
    ("fault", "code", "status"),
    [
        ("throttle", "ThrottlingException", 400),
        ("limit", "LimitExceededException", 400),
        ("error", "InternalFailure", 500),
        ("unavailable", "ServiceUnavailable", 503),
        ("deny", "AccessDeniedException", 400),
        ("expire", "ExpiredTokenException", 400),
    ],
)
def test_answers_that_are_errors_on_request(
    service: LocalPersonalize, personalize: Any, fault: str, code: str, status: int
) -> None:
    asked = {"fault": fault, "times": 2, "operation": "ListSolutions"}
    assert control(service, "POST", "faults", asked) == (200, {})
    personalize.list_recipes()
    for _ in range(2):
        with pytest.raises(ClientError) as caught:
            personalize.list_solutions()
        assert code_of(caught)[0] == code
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    personalize.list_solutions()


def test_a_connection_that_is_dropped_before_the_request_is_carried_out(
    service: LocalPersonalize, personalize: Any
) -> None:
    control(service, "POST", "faults", {"fault": "drop"})
    with pytest.raises(ConnectionClosedError):
        create(personalize, request(service))
    state = control(service, "GET", "state")[1]
    assert state["jobs"] == []
    assert [call["outcome"] for call in state["create_calls"]] == ["dropped"]


def test_an_answer_that_is_lost(service: LocalPersonalize, personalize: Any) -> None:
    control(service, "POST", "faults", {"fault": "drop_after", "operation": "CreateBatchInferenceJob"})
    wanted = request(service)
    with pytest.raises(ConnectionClosedError):
        create(personalize, wanted)
    with pytest.raises(ClientError) as caught:
        create(personalize, wanted)
    assert code_of(caught)[0] == "ResourceAlreadyExistsException"
    state = control(service, "GET", "state")[1]
    assert [job["jobName"] for job in state["jobs"]] == [wanted["jobName"]]
    assert [(call["jobName"], call["outcome"]) for call in state["create_calls"]] == [
        (wanted["jobName"], "ok, dropped"),
        (wanted["jobName"], "ResourceAlreadyExistsException"),
    ]
    assert state["calls"] == {"CreateBatchInferenceJob": 2}
    assert all(abs(call["at"] - time.time()) < 60 for call in state["create_calls"])


@pytest.mark.parametrize(("fault", "outcome"), [("drop", "dropped"), ("drop_after", "ok, dropped")])
def test_a_call_is_counted_before_its_connection_is_dropped(
    service: LocalPersonalize, personalize: Any, monkeypatch: pytest.MonkeyPatch, fault: str, outcome: str
) -> None:
    """However long the server takes afterwards: whoever looks when the connection is gone, finds the call."""
    from airflow_provider_personalize.local import wsgi

    seen = []
    drop = wsgi._drop

    def look_and_drop(environ: Any) -> None:
        seen.append([call["outcome"] for call in service.controls.state()["create_calls"]])
        drop(environ)

    monkeypatch.setattr(wsgi, "_drop", look_and_drop)
    control(service, "POST", "faults", {"fault": fault, "operation": "CreateBatchInferenceJob"})
    with pytest.raises(ConnectionClosedError):
        create(personalize, request(service))
    assert seen == [[outcome]]
    assert service.controls.state()["calls"] == {"CreateBatchInferenceJob": 1}


def test_jobs_that_fail_or_never_finish_on_request(service: LocalPersonalize, personalize: Any) -> None:
    control(service, "POST", "faults", {"fault": "fail_job", "reason": "The oven was cold."})
    control(service, "POST", "faults", {"fault": "never_finish"})
    failed, endless = create(personalize, request(service)), create(personalize, request(service))
    answer = control(service, "POST", "clock", {"advance": 10 * 24 * 3600})[1]
    assert answer["settled"] is True
    assert describe(personalize, failed)["failureReason"] == "The oven was cold."
    assert describe(personalize, endless)["status"] == "CREATE IN_PROGRESS"
    assert [row["status"] for row in personalize.list_batch_inference_jobs()["batchInferenceJobs"]] == [
        "CREATE IN_PROGRESS",
        "CREATE FAILED",
    ]


def test_records_that_fail_on_request(service: LocalPersonalize) -> None:
    control(service, "POST", "faults", {"fault": "fail_records", "every": 3, "reason": "Internal error: bad luck"})
    body = as_lines(*({"userId": str(number)} for number in range(1, 8)))
    job, output = run(service, "user-personalization", body, numResults=1)
    assert job["status"] == "ACTIVE"
    assert [row["error"] for row in rows(output)] == [
        "Internal error: bad luck" if number % 3 == 0 else None for number in range(7)
    ]
    assert [len(row["output"]["recommendedItems"]) for row in rows(output)] == [0, 1, 1, 0, 1, 1, 0]
    _, output = run(service, "user-personalization", body, numResults=1)
    assert {row["error"] for row in rows(output)} == {None}


def test_the_clock_can_be_set(service: LocalPersonalize, personalize: Any) -> None:
    assert control(service, "POST", "clock", {"now": 1_790_000_000, "stopped": True})[1] == {
        "now": 1_790_000_000,
        "stopped": True,
        "settled": True,
    }
    arn = create(personalize, request(service))
    assert describe(personalize, arn)["creationDateTime"].timestamp() == 1_790_000_000


def test_a_new_start(service: LocalPersonalize, personalize: Any, s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key="kept", Body=b"x")
    wanted = request(service)
    create(personalize, wanted)
    control(service, "POST", "faults", {"fault": "deny", "times": 9})
    assert control(service, "POST", "reset") == (200, {})
    state = control(service, "GET", "state")[1]
    assert abs(state.pop("now") - time.time()) < 60
    assert state == {"jobs": [], "calls": {}, "create_calls": [], "most_running": {}, "faults": []}
    create(personalize, wanted)
    assert s3.get_object(Bucket=BUCKET, Key="kept")["Body"].read() == b"x"


@pytest.mark.parametrize(
    ("method", "name", "body", "status", "message"),
    [
        ("POST", "faults", {"fault": "explode"}, 400, "fault: expected one of throttle, limit"),
        ("POST", "faults", {"fault": "deny", "times": 0}, 400, "times: expected a whole number from 1, got 0"),
        ("POST", "faults", {"fault": "deny", "colour": 1}, 400, "colour"),
        ("POST", "clock", {"forward": 1}, 400, "forward"),
        ("GET", "nothing", None, 404, "Expected one of GET state, POST faults"),
    ],
)
def test_controls_that_are_misused(
    service: LocalPersonalize, method: str, name: str, body: Any, status: int, message: str
) -> None:
    answered, answer = control(service, method, name, body)
    assert answered == status
    assert message in answer["message"]


def test_faults_can_be_called_off(service: LocalPersonalize, personalize: Any) -> None:
    control(service, "POST", "faults", {"fault": "deny", "times": 9})
    assert control(service, "GET", "state")[1]["faults"][0]["times"] == 9
    control(service, "DELETE", "faults")
    personalize.list_recipes()


# S3


def test_s3_takes_parts_and_ranges_and_both_styles_of_address(service: LocalPersonalize, s3: Any) -> None:
    s3.create_bucket(Bucket="own-bucket")
    part = bytes(range(256)) * 4096 * 6  # 6 MiB; all parts but the last have at least 5
    upload = s3.create_multipart_upload(Bucket="own-bucket", Key="big")["UploadId"]
    tags = [
        {
            "PartNumber": number,
            "ETag": s3.upload_part(Bucket="own-bucket", Key="big", UploadId=upload, PartNumber=number, Body=body)[
                "ETag"
            ],
        }
        for number, body in ((1, part), (2, b"end"))
    ]
    s3.complete_multipart_upload(Bucket="own-bucket", Key="big", UploadId=upload, MultipartUpload={"Parts": tags})
    got = s3.get_object(Bucket="own-bucket", Key="big", Range=f"bytes={len(part) - 2}-")
    assert (got["Body"].read(), got["ResponseMetadata"]["HTTPStatusCode"]) == (b"\xfe\xffend", 206)
    asked = urllib.request.Request(
        f"{service.url}/big", headers={"Host": "own-bucket.s3.amazonaws.com", "Range": "bytes=0-2"}
    )
    with urllib.request.urlopen(asked) as answer:
        assert answer.read() == b"\x00\x01\x02"


def test_encrypted_output(service: LocalPersonalize, s3: Any) -> None:
    key = "arn:aws:kms:us-east-1:123456789012:key/11111111-2222-3333-4444-555555555555"
    name = next(NAMES)
    run(
        service,
        "user-personalization",
        as_lines({"userId": "1"}),
        jobName=name,
        jobInput={"s3DataSource": {"path": f"s3://{BUCKET}/{name}/in/", "kmsKeyArn": key}},
        jobOutput={"s3DataDestination": {"path": f"s3://{BUCKET}/{name}/out/", "kmsKeyArn": key}},
    )
    head = s3.head_object(Bucket=BUCKET, Key=f"{name}/out/part.json.out")
    assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", key)
