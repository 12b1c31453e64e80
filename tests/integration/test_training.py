"""Training against the stand-in: what is trained, once, whatever happens, and which versions jobs then run on."""

from __future__ import annotations

from types import SimpleNamespace

import boto3
import pytest

from airflow_provider_personalize.compat import AirflowFailException, TaskDeferred
from airflow_provider_personalize.exceptions import (
    InvalidRequestError,
    JobConflictError,
    JobFailedError,
    SolutionVersionCheckError,
)
from airflow_provider_personalize.hooks.personalize import PersonalizeHook
from airflow_provider_personalize.hooks.versions import CLAIM_TAG
from airflow_provider_personalize.local import LocalPersonalize
from airflow_provider_personalize.operators.training import (
    PersonalizeCreateSolutionVersionOperator,
    PersonalizeSolutionVersionCheckOperator,
)
from tests.integration.test_jobs import both_halves, context, event_of, inference, run_through

CREATE = {"operation": "CreateSolutionVersion"}


class KilledError(BaseException):
    """What SIGKILL is to a task: no code of its own runs after it."""


@pytest.fixture(params=[True, False], ids=["names-refused", "names-ignored"])
def service(request, monkeypatch):
    """The stand-in, which refuses or ignores the name of a version that is taken."""
    with LocalPersonalize(port=0, job_seconds=0.2, refuse_version_names=request.param) as local:
        for name, value in local.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(PersonalizeHook, "_pause", lambda *_: None)
        local.before = set(versions(local))
        yield local


def training(service, **changes):
    arguments = {
        "task_id": "train",
        "solution_arn": service.solution_arns["user-personalization"],
        "poll_interval": 0.1,
        **changes,
    }
    return PersonalizeCreateSolutionVersionOperator(**arguments)


def client():
    return boto3.client("personalize")


def versions(service, name="user-personalization"):
    lines = client().list_solution_versions(solutionArn=service.solution_arns[name])["solutionVersions"]
    return [line["solutionVersionArn"] for line in lines]


def trained(service):
    return [arn for arn in versions(service) if arn not in service.before]


def ran_on(service):
    """Give the versions that batch jobs ran on, in their order."""
    made = [job for job in service.controls.state()["jobs"] if job["kind"] == "BatchInferenceJob"]
    return [job["solutionVersionArn"] for job in made]


def tags(arn):
    return {tag["tagKey"]: tag["tagValue"] for tag in client().list_tags_for_resource(resourceArn=arn)["tags"]}


@both_halves
def test_a_version_is_trained_and_its_hours_are_told(service, deferrable, log):
    ctx = context()
    arn = run_through(training(service, deferrable=deferrable, wait_for_completion=True, tags={"team": "data"}), ctx)
    assert trained(service) == [arn]
    version = client().describe_solution_version(solutionVersionArn=arn)["solutionVersion"]
    assert version["status"] == "ACTIVE"
    assert version["name"].startswith("nightly-recommend-")
    assert tags(arn) == {"team": "data", CLAIM_TAG: version["name"]}
    assert ctx["ti"].pushed["training_hours"] == version["trainingHours"]
    told = log()
    assert f"(trainingHours): {version['trainingHours']}" in told
    trains_itself = client().describe_solution(solutionArn=version["solutionArn"])["solution"]["performAutoTraining"]
    assert ("performAutoTraining" in told) is trains_itself


@both_halves
@pytest.mark.parametrize("point", ["before the call", "after the answer", "while waiting", "before the resume"])
def test_a_task_that_is_killed_trains_once(service, monkeypatch, deferrable, point):
    def killed(*_, **__):
        raise KilledError

    send = PersonalizeHook._try_train
    with monkeypatch.context() as patch:
        if point == "before the call":
            patch.setattr(PersonalizeHook, "_try_train", killed)
        elif point == "after the answer":
            patch.setattr(PersonalizeHook, "_try_train", lambda self, request: killed(send(self, request)))
        elif not deferrable:
            patch.setattr(PersonalizeHook, "get_status", killed)
        with pytest.raises((KilledError, TaskDeferred)) as caught:
            training(service, deferrable=deferrable, wait_for_completion=True).execute(context())
        if isinstance(caught.value, TaskDeferred) and point == "before the resume":
            assert event_of(caught.value.trigger)["status"] == "success"
    assert len(trained(service)) == (0 if point == "before the call" else 1)
    arn = run_through(training(service, deferrable=deferrable, wait_for_completion=True), context(try_number=2))
    assert trained(service) == [arn]
    # Neither does clearing it train anew; another run does.
    assert run_through(training(service, wait_for_completion=True), context()) == arn
    assert training(service).execute(context(run_id="manual__2")) != arn


@pytest.mark.parametrize("fault", ["drop", "drop_after", "error", "throttle"])
def test_an_answer_that_is_lost_trains_once(service, fault):
    service.controls.add_fault(fault, times=1 if fault == "drop_after" else 3, **CREATE)
    assert trained(service) == [] != [training(service).execute(context())] == trained(service)


def test_a_listing_that_shows_a_version_late(service, monkeypatch):
    """The service refuses the name, or the answer was lost: the version is looked for until the listing has it."""
    hidden = iter([1, 1, 1])
    listed = PersonalizeHook.versions_of
    monkeypatch.setattr(PersonalizeHook, "versions_of", lambda self, arn: [] if next(hidden, 0) else listed(self, arn))
    first = training(service).execute(context())
    if service._refuse_version_names:
        assert training(service).execute(context()) == first
        assert trained(service) == [first]


@both_halves
def test_a_version_that_failed_gives_way_to_a_new_attempt(service, deferrable):
    service.controls.add_fault("fail_job", reason="too little")
    with pytest.raises(JobFailedError, match="too little") as caught:
        run_through(training(service, deferrable=deferrable, wait_for_completion=True), context())
    assert not isinstance(caught.value, AirflowFailException)
    arn = run_through(training(service, deferrable=deferrable, wait_for_completion=True), context())
    assert len(trained(service)) == 2
    assert [client().describe_solution_version(solutionVersionArn=arn)["solutionVersion"]["name"][-2:]] == ["-2"]
    assert training(service).execute(context()) == arn


def test_a_full_quota_is_waited_out(service):
    service.controls.add_fault("limit", times=2, **CREATE)
    arn = run_through(training(service, deferrable=True), context())
    assert trained(service) == [arn]


def test_what_is_there_is_not_used_unless_it_is_wanted(service):
    arn = training(service).execute(context())
    with pytest.raises(JobConflictError) as caught:
        training(service, if_job_exists="fail").execute(context())
    assert caught.value.job_arn == arn
    assert training(service, if_job_exists="new").execute(context()) != arn
    assert len(trained(service)) == 2


def test_only_versions_since_the_run_began_are_looked_at(service):
    arn = training(service).execute(context())
    began = client().describe_solution_version(solutionVersionArn=arn)["solutionVersion"]["creationDateTime"]
    looked = service.controls.state()["calls"]
    ctx = context() | {"dag_run": SimpleNamespace(run_after=began, data_interval_end=None, start_date=began)}
    assert training(service).execute(ctx) == arn
    calls = service.controls.state()["calls"]
    assert calls["ListSolutionVersions"] - looked["ListSolutionVersions"] == 1
    assert calls["ListTagsForResource"] - looked.get("ListTagsForResource", 0) <= 2


@pytest.mark.parametrize("stop", [True, False])
def test_a_task_that_is_killed_stops_the_training_if_asked_to(service, stop, log):
    service.controls.add_fault("never_finish")
    operator = training(service, stop_on_kill=stop)
    arn = operator.execute(context())
    operator.on_kill()
    status = client().describe_solution_version(solutionVersionArn=arn)["solutionVersion"]["status"]
    assert (status in {"CREATE STOPPING", "CREATE STOPPED"}) is stop
    assert ("What has been trained until now is billed" in log()) is stop
    # What was stopped comes to nothing, so a retry trains anew.
    assert (training(service).execute(context()) == arn) is not stop


def test_an_update_needs_a_recipe_that_has_it(service):
    with pytest.raises(InvalidRequestError, match=r"aws-user-personalization-v2.*'UPDATE'") as caught:
        training(service, training_mode="UPDATE").execute(context())
    assert isinstance(caught.value, AirflowFailException)
    assert trained(service) == []


def test_an_update_needs_a_full_version_before(service):
    group = client().list_dataset_groups()["datasetGroups"][0]["datasetGroupArn"]
    recipe = "arn:aws:personalize:::recipe/aws-user-personalization"
    solution = client().create_solution(name="up", datasetGroupArn=group, recipeArn=recipe, performAutoTraining=False)
    arguments = {"solution_arn": solution["solutionArn"], "wait_for_completion": True}
    service.controls.set_clock(advance=60)
    with pytest.raises(InvalidRequestError, match="mode FULL to update, got none at all"):
        training(service, training_mode="UPDATE", **arguments).execute(context())
    assert client().list_solution_versions(solutionArn=solution["solutionArn"])["solutionVersions"] == []
    training(service, **arguments).execute(context())
    assert training(service, training_mode="UPDATE", solution_arn=solution["solutionArn"]).execute(context())


def test_jobs_run_on_the_newest_version_that_has_the_tags(service, log):
    good = service.solution_version_arns["user-personalization"]
    source = {"solution_version_arn": None, "solution_arn": service.solution_arns["user-personalization"]}
    service.s3(service.region).put_object(Bucket="personalize-local", Key="in/users.json", Body=b'{"userId": "1"}\n')
    wanted = inference(service, require_tags={"checked": "passed"}, **source)
    with pytest.raises(InvalidRequestError, match=r"require_tags: .*got none among the newest"):
        wanted.execute(context())
    client().tag_resource(resourceArn=good, tags=[{"tagKey": "checked", "tagValue": "passed"}])
    bad = training(service, wait_for_completion=True).execute(context())
    inference(service, **source).execute(context(run_id="a"))
    wanted.execute(context(run_id="b"))
    assert ran_on(service) == [bad, good]
    assert "1 newer ACTIVE version(s)" in log()
    before = service.controls.state()["calls"]["ListTagsForResource"]
    client().tag_resource(resourceArn=bad, tags=[{"tagKey": "checked", "tagValue": "passed"}])
    wanted.execute(context(run_id="c"))
    assert ran_on(service) == [bad, good, bad]
    assert service.controls.state()["calls"]["ListTagsForResource"] == before + 1
    with pytest.raises(InvalidRequestError, match="require_tags: expected solution_arn"):
        inference(service, require_tags={"checked": "passed"})


NDCG = "normalized_discounted_cumulative_gain_at_10"


def checking(service, arn, **changes):
    baseline = service.solution_arns["popularity-count"]
    arguments = {"task_id": "check", "solution_version_arn": arn, "baseline_solution_arn": baseline, **changes}
    return PersonalizeSolutionVersionCheckOperator(**arguments)


def fake_metrics(monkeypatch, **by_arn):
    """Let versions have other metrics than the stand-in measured."""
    measured = PersonalizeHook.metrics_of
    monkeypatch.setattr(
        PersonalizeHook, "metrics_of", lambda self, arn: measured(self, arn) | by_arn.get(arn.rpartition("/")[2], {})
    )


def test_a_version_that_passes_is_tagged_and_one_that_fails_is_not(local, monkeypatch, tmp_path, log):
    good = local.solution_version_arns["user-personalization"]
    asked = {
        "checks": {NDCG: {"greater_than": 0}, f"{NDCG}_to_previous": {"geq_to": 0.9}},
        "warn_checks": {"coverage": {"geq_to": 2}, f"{NDCG}_to_baseline": {"greater_than": 0}},
        "pass_tags": {"checked": "passed"},
    }
    figures = checking(local, good, report_uri=str(tmp_path / "good.html"), **asked).execute(context())
    measured = client().get_solution_metrics(solutionVersionArn=good)["metrics"]
    baseline = local.solution_version_arns["popularity-count"]
    popular = client().get_solution_metrics(solutionVersionArn=baseline)["metrics"]
    assert figures["metrics"] == measured
    assert figures["previous"] is None
    assert figures["baseline"] == {"solution_version_arn": baseline, "metrics": popular}
    assert figures[f"{NDCG}_to_baseline"] == measured[NDCG] / popular[NDCG]
    assert tags(good)["checked"] == "passed"
    assert "Warned: coverage is" in log()
    assert "Look before you use it" in (tmp_path / "good.html").read_text()

    worse = training(local, wait_for_completion=True).execute(context())
    worst = training(local, wait_for_completion=True).execute(context(run_id="manual__2"))
    # The version that failed sets no standard: the last one is compared with the good one.
    halves = {worse.rpartition("/")[2]: {NDCG: measured[NDCG] / 2}}
    fake_metrics(monkeypatch, **halves, **{worst.rpartition("/")[2]: {NDCG: measured[NDCG] / 2.1}})
    for arn, ratio in ((worse, "0.5"), (worst, "0.4762")):
        ctx = context()
        with pytest.raises(SolutionVersionCheckError, match=f"{NDCG}_to_previous is {ratio}, expected ≥ 0.9") as caught:
            checking(local, arn, report_uri=str(tmp_path / "bad.html"), **asked).execute(ctx)
        assert isinstance(caught.value, AirflowFailException)
        assert ctx["ti"].pushed["return_value"]["previous"]["solution_version_arn"] == good
        assert "checked" not in tags(arn)
        page = (tmp_path / "bad.html").read_text()
        assert "Not good enough" in page
        assert arn.rpartition("/")[2] in page


def test_what_cannot_be_checked(local):
    arn = local.solution_version_arns["user-personalization"]
    with pytest.raises(SolutionVersionCheckError, match=r"recall_at_7 is not known.*the metrics of this recipe are"):
        checking(local, arn, checks={"recall_at_7": {"geq_to": 0.1}}).execute(context())
    with pytest.raises(InvalidRequestError, match="known only with baseline_solution_arn"):
        checking(local, arn, checks={f"{NDCG}_to_baseline": {"geq_to": 1}}, baseline_solution_arn=None)
    with pytest.raises(InvalidRequestError, match="expected conditions for coverage"):
        checking(local, arn, checks={"coverage": {"at_least": 1}})
    local.controls.add_fault("never_finish")
    pending = training(local).execute(context())
    with pytest.raises(InvalidRequestError, match="expected an ACTIVE solution version, got one in CREATE") as caught:
        checking(local, pending).execute(context())
    assert not isinstance(caught.value, AirflowFailException)
