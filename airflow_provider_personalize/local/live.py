"""The operations of ``personalize-runtime`` and ``personalize-events``."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.local.contents import Contents
from airflow_provider_personalize.local.drafts import Call, Learned, find_active
from airflow_provider_personalize.local.errors import RecordError
from airflow_provider_personalize.local.expressions import parse_filter
from airflow_provider_personalize.local.guard import decode_json
from airflow_provider_personalize.local.jobs import Job
from airflow_provider_personalize.local.lines import LineAnswerer
from airflow_provider_personalize.local.model_drafts import find_learned
from airflow_provider_personalize.local.validation import invalid, validate_filter_use
from airflow_provider_personalize.service.kinds import (
    BATCH_INFERENCE_JOB,
    CAMPAIGN,
    DATASET,
    DATASET_GROUP,
    EVENT_TRACKER,
    FILTER,
    RECOMMENDER,
)
from airflow_provider_personalize.service.statuses import ACTIVE

Request = dict[str, Any]
_MOST_RESULTS = 500


def _recommendations(call: Call) -> Request:
    if ("campaignArn" in call.request) == ("recommenderArn" in call.request):
        raise invalid("Expected a campaignArn or a recommenderArn.")
    learned = _asked(call)
    record: Request = {key: call.request[key] for key in ("userId", "itemId") if key in call.request}
    return {"itemList": _answer(call, learned, record)} | _recommendation_id()


def _ranking(call: Call) -> Request:
    learned = _asked(call)
    if learned.recipe.type != "PERSONALIZED_RANKING":
        raise invalid(f"The recipe {learned.recipe.name} does not support GetPersonalizedRanking.")
    record = {"userId": call.request["userId"], "itemList": call.request["inputList"]}
    return {"personalizedRanking": _answer(call, learned, record)} | _recommendation_id()


def _recommendation_id() -> Request:
    return {"recommendationId": f"RID-{uuid.uuid4()}"}


def _asked(call: Call) -> Learned:
    with call.api.lock:
        if "recommenderArn" in call.request:
            recommender = call.region.find(RECOMMENDER, call.request["recommenderArn"])
            if (status := recommender.status(call.now)) != ACTIVE or not recommender.content:
                raise invalid(f"The recommender {recommender.arn} is {status}, not {ACTIVE}.")
            learned: Learned = recommender.content
            return learned
        campaign = call.region.find(CAMPAIGN, call.request["campaignArn"])
        if (status := campaign.status(call.now)) != ACTIVE:
            raise invalid(f"The campaign {campaign.arn} is {status}, not {ACTIVE}.")
        return find_learned(call, campaign.fields["solutionVersionArn"])


def _answer(call: Call, learned: Learned, record: Request) -> list[Request]:
    count = call.request.get("numResults") or 25
    if not 0 <= count <= _MOST_RESULTS:
        raise invalid(f"numResults must be from 0 to {_MOST_RESULTS}, got {count}.")
    expression = None
    if "filterArn" in call.request:
        expression = call.region.find(FILTER, call.request["filterArn"]).fields["filterExpression"]
        validate_filter_use(BATCH_INFERENCE_JOB, learned.recipe, parse_filter(expression))
    # One question is answered as a line of a batch job is.
    question = Job(
        0,
        BATCH_INFERENCE_JOB,
        "",
        {"numResults": count},
        0,
        0,
        recipe=learned.recipe,
        filter_expression=expression,
    )
    answerer = LineAnswerer(question, learned.recommender)
    try:
        output = answerer.recommend(record | {"filterValues": call.request.get("filterValues") or {}})
    except (RecordError, InvalidRequestError) as error:
        raise invalid(error.message) from None
    items, scores = output["recommendedItems"], output.get("scores") or []
    if not scores:
        return [{"itemId": item} for item in items]
    return [{"itemId": item, "score": score} for item, score in zip(items, scores, strict=True)]


def _put_events(call: Call) -> Request:
    with call.api.lock:
        tracker = next(
            (one for one in call.region.of(EVENT_TRACKER) if one.fields["trackingId"] == call.request["trackingId"]),
            None,
        )
        if tracker is None or tracker.status(call.now) != ACTIVE:
            raise invalid(f"There is no ACTIVE event tracker with the trackingId {call.request['trackingId']}.")
        group = call.region.find(DATASET_GROUP, tracker.fields["datasetGroupArn"]).content
        contents: Contents | None = group.datasets.get("INTERACTIONS")
        if contents is None:
            raise invalid("The dataset group of the event tracker has no INTERACTIONS dataset.")
        rows = [
            _properties(event)
            | {
                "USER_ID": call.request.get("userId"),
                "ITEM_ID": event.get("itemId"),
                "TIMESTAMP": int(event["sentAt"]),
                "EVENT_TYPE": event["eventType"],
                "EVENT_VALUE": event.get("eventValue"),
                "IMPRESSION": event.get("impression"),
                "RECOMMENDATION_ID": event.get("recommendationId"),
            }
            for event in call.request["eventList"]
        ]
        with group.lock:
            for row in rows:
                contents.put({key: value for key, value in row.items() if value is not None})
    return {}


def _put_entities(kind: str, list_key: str, id_key: str, call: Call) -> Request:
    with call.api.lock:
        dataset = find_active(call.region, DATASET, call.request["datasetArn"], call.now)
        if dataset.fields["datasetType"] != kind:
            raise invalid(f"Expected a dataset of the type {kind}, got one of {dataset.fields['datasetType']}.")
        rows = [_properties(one) | {id_key: one[id_key]} for one in call.request[list_key]]
        for row in rows:
            dataset.content.put(row)
    return {}


def _properties(one: Request) -> Request:
    """Return the properties of an event, an item or a user, which come as JSON in a string."""
    properties = one.get("properties") or {}
    if isinstance(properties, str):
        try:
            properties = decode_json(properties)
        except ValueError as error:
            raise invalid(f"The properties are not JSON: {error}.") from None
    if not isinstance(properties, dict):
        raise invalid(f"Expected properties as a JSON object, got {json.dumps(properties)}.")
    return properties


def _put_items(call: Call) -> Request:
    return _put_entities("ITEMS", "items", "itemId", call)


def _put_users(call: Call) -> Request:
    return _put_entities("USERS", "users", "userId", call)


#: The operations of the two services.
LIVE: dict[str, Callable[[Call], Request]] = {
    "GetRecommendations": _recommendations,
    "GetPersonalizedRanking": _ranking,
    "PutEvents": _put_events,
    "PutItems": _put_items,
    "PutUsers": _put_users,
}
#: The services, and the operation at each path of theirs.
PATHS: dict[str, tuple[str, str]] = {
    "/recommendations": ("personalize-runtime", "GetRecommendations"),
    "/personalize-ranking": ("personalize-runtime", "GetPersonalizedRanking"),
    "/action-recommendations": ("personalize-runtime", "GetActionRecommendations"),
    "/events": ("personalize-events", "PutEvents"),
    "/items": ("personalize-events", "PutItems"),
    "/users": ("personalize-events", "PutUsers"),
    "/actions": ("personalize-events", "PutActions"),
    "/action-interactions": ("personalize-events", "PutActionInteractions"),
}
