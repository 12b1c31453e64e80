"""
What every operator, sensor, trigger and link of the package has to keep, whichever module it stands in.

Classes are found by walking the package, so a new one is held to this the day it is written. Where one takes a
parameter that no other takes, it needs a line in SAMPLES.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pickle
import pkgutil
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("airflow", reason="the classes under test are Airflow's")

from botocore.exceptions import ClientError

import airflow_provider_personalize
from airflow_provider_personalize.compat import AirflowFailException
from airflow_provider_personalize.exceptions import InvalidRequestError, PersonalizeError, ServiceError
from airflow_provider_personalize.get_provider_info import get_provider_info
from airflow_provider_personalize.operators.mixins import name_in_ui
from tests.house import pure

PACKAGE = Path(airflow_provider_personalize.__file__).parent
BASE = "arn:aws:personalize:us-east-1:123456789012:"
CONNECTION = {
    "aws_conn_id": "my_aws",
    "region_name": "eu-west-1",
    "verify": "/ca.pem",
    "botocore_config": {"read_timeout": 7},
}
#: Values that the exceptions' constructors take, where text will not do.
EXCEPTION_SAMPLES = {
    "details": ["without results: u1"],
    "differences": {"numResults": (25, 10)},
    "examples": ["line 3: not JSON"],
    "failed": ["rows is 0, expected > 0"],
    "figures": {"rows": 0},
    "lines": 10,
    "max_reject_rate": 0.1,
    "may_pass": True,
    "rejects": 2,
    "status": 400,
    "waited": 61.0,
}
#: A value for every parameter that some class needs.
SAMPLES = {
    "data_location": "s3://shop/users/",
    "dataset_arn": BASE + "dataset/shop/ITEMS",
    "dataset_group_arn": BASE + "dataset-group/shop",
    "dataset_type": "ITEMS",
    "filter_expression": 'EXCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ("*")',
    "iceberg_conn_id": "shop",
    "loads": [],
    "metrics": [{"eventType": "watch", "metricName": "watched", "expression": "SUM(DatasetType.INTERACTIONS)"}],
    "metrics_output_config": {"roleArn": "arn:aws:iam::123456789012:role/personalize"},
    "name": "shop",
    "recipe_arn": "arn:aws:personalize:::recipe/aws-user-personalization-v2",
    "schema": {
        "type": "record",
        "name": "Items",
        "namespace": "com.amazonaws.personalize.schema",
        "fields": [{"name": "ITEM_ID", "type": "string"}, {"name": "PRICE", "type": ["float", "null"]}],
        "version": "1.0",
    },
    "schema_arn": BASE + "schema/shop",
    "deadline": 1_800_000_000.0,
    "input_uri": "s3://shop/in/",
    "job_arn": BASE + "batch-inference-job/nightly",
    "output_uri": "s3://shop/out/",
    "poll_interval": 30.0,
    "resource_arn": BASE + "campaign/shop",
    "role_arn": "arn:aws:iam::123456789012:role/personalize",
    "s3_uri": "s3://shop/in/",
    "solution_arn": BASE + "solution/s",
    "solution_version_arn": BASE + "solution/s/1",
    "sql": "SELECT user_id FROM users",
    "sql_conn_id": "shop",
    "table": "lake.recommendations",
    "target_uri": "s3://shop/changes.jsonl",
    "table_name": "recommendations",
}


def modules():
    """Every module of the package but the stand-in's, which is an application of its own."""
    for info in pkgutil.walk_packages([str(PACKAGE)], f"{airflow_provider_personalize.__name__}."):
        if ".local" not in info.name:
            yield importlib.import_module(info.name)


def classes_under(base):
    """The public concrete classes of the package under a base class."""
    loaded = list(modules())
    return sorted(
        {
            value
            for module in loaded
            for value in vars(module).values()
            if inspect.isclass(value)
            and issubclass(value, base)
            and value.__module__ == module.__name__
            and not value.__name__.startswith("_")
            # Those of the tests' own do not count, wherever they were imported.
            and not any(cls.__module__.startswith(PACKAGE.name) for cls in value.__subclasses__())
        },
        key=lambda value: value.__name__,
    )


def operator_classes():
    from airflow_provider_personalize.compat import BaseOperator

    return classes_under(BaseOperator)


def trigger_classes():
    from airflow.triggers.base import BaseTrigger

    return classes_under(BaseTrigger)


def link_classes():
    from airflow.providers.amazon.aws.links.base_aws import BaseAwsLink

    return classes_under(BaseAwsLink)


def parameters(cls):
    """The named parameters of a class's constructor and of those that it passes ``**kwargs`` to."""
    names = {}
    for base in cls.__mro__:
        if base is object or "__init__" not in vars(base):
            continue
        signature = inspect.signature(inspect.unwrap(base.__init__))
        names |= {n: p for n, p in signature.parameters.items() if n not in names}
        if not any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
            break
    return names


def arguments(cls):
    """The arguments that make an example of a class: what it needs, and a connection."""
    taken = parameters(cls)
    needed = {
        name: SAMPLES[name]
        for name, parameter in taken.items()
        if name in SAMPLES and parameter.default is parameter.empty
    }
    if {"job_arn", "output_uri"} <= taken.keys():
        needed["job_arn"] = SAMPLES["job_arn"]
    elif cls.__name__ == "SqlToPersonalizeDatasetOperator":
        needed["dataset_arn"] = BASE + "dataset/shop/ITEMS"
    elif "solution_version_arn" in taken:
        needed["solution_version_arn"] = SAMPLES["solution_version_arn"]
    if cls.__name__.endswith("RecommenderOperator"):
        recommender = {"resource_arn": BASE + "recommender/r", "recipe_arn": "arn:aws:personalize:::recipe/aws-vod-x"}
        needed |= {name: value for name, value in recommender.items() if name in needed}
    if "task_id" in taken:
        needed["task_id"] = "example"
    if hasattr(cls, "resource_kind") and "job_arn" in taken:
        needed["job_arn"] = BASE + cls.resource_kind.arn_type + "/nightly"
    return needed | {name: value for name, value in CONNECTION.items() if name in taken}


def by_name(cls):
    return cls.__name__


def test_the_package_has_what_it_says():
    """The sweep below would pass on an empty package."""
    assert {cls.__name__ for cls in operator_classes()} >= {
        "PersonalizeCreateBatchInferenceJobOperator",
        "PersonalizeCreateBatchSegmentJobOperator",
        "PersonalizeBatchInferenceJobSensor",
        "PersonalizeCreateDataDeletionJobOperator",
        "PersonalizeCreateDatasetExportJobOperator",
        "PersonalizeCreateDatasetImportJobOperator",
        "PersonalizeBatchSegmentJobSensor",
        "SqlToPersonalizeDatasetOperator",
        "SqlToPersonalizeInputOperator",
        "SqlToPersonalizeUserListOperator",
        "PersonalizeToSqlOperator",
        "PersonalizeOutputCheckOperator",
    }
    assert {cls.__name__ for cls in trigger_classes()} >= {"PersonalizeJobTrigger"}


@pytest.mark.parametrize("cls", operator_classes(), ids=by_name)
class TestOperators:
    def test_it_can_log(self, cls, log):
        """Airflow 2 keeps the logger as ``_log``, a name that a method must not take."""
        cls(**arguments(cls)).log.warning("this is told")
        assert "this is told" in log()

    def test_template_fields_are_constructor_arguments(self, cls):
        taken = parameters(cls)
        operator = cls(**arguments(cls))
        assert set(cls.template_fields) <= set(taken)
        for name in cls.template_fields:
            assert hasattr(operator, name)

    def test_a_wrong_literal_is_refused_when_the_file_is_parsed(self, cls):
        """Each argument that has a reader is read by the constructor, whose last line calls ``check_literals``."""
        for name in cls.argument_readers:
            with pytest.raises(InvalidRequestError, match=rf"\b{name}\b"):
                cls(**arguments(cls) | {name: object()})

    def test_it_takes_the_connections_arguments(self, cls):
        operator = cls(**arguments(cls))
        for name, value in CONNECTION.items():
            assert getattr(operator, name) == value
        assert {"aws_conn_id", "region_name", "verify"} <= set(cls.template_fields)

    def test_its_hook_gets_the_connection(self, cls):
        hook = cls(**arguments(cls)).hook
        assert (hook.aws_conn_id, hook._region_name, hook._verify) == ("my_aws", "eu-west-1", "/ca.pem")
        assert hook._config.read_timeout == 7

    def test_it_survives_serialization(self, cls):
        dag = make_dag()
        given = arguments(cls)
        cls(dag=dag, **given)
        task = rebuilt(json.loads(json.dumps(serialized(dag)))).task_dict["example"]
        assert task.task_type == cls.__name__
        assert task.operator_name == cls.custom_operator_name == name_in_ui(cls.__name__)
        rendered = set(cls.template_fields) & set(given)
        assert {name: getattr(task, name) for name in rendered} == {name: given[name] for name in rendered}

    def test_it_can_be_mapped(self, cls):
        dag = make_dag()
        needed = arguments(cls)
        del needed["task_id"]
        field = next(name for name in cls.template_fields if name in needed and name not in CONNECTION)
        value = needed.pop(field)
        cls.partial(task_id="example", dag=dag, **needed).expand(**{field: [value, value]})
        assert type(rebuilt(serialized(dag)).task_dict["example"]).__name__.endswith("MappedOperator")

    def test_its_signature_names_every_parameter(self, cls):
        """Those of its bases too, with the same defaults, up to Airflow's own; and the connection's."""
        shown = inspect.signature(cls).parameters
        for base in cls.__mro__:
            if base.__module__.startswith("airflow_prov") and "__init__" in vars(base):
                taken = inspect.signature(inspect.unwrap(base.__init__)).parameters
                named = {name: p for name, p in taken.items() if name != "self" and p.kind is p.KEYWORD_ONLY}
                assert named.keys() <= shown.keys()
                assert {name: (p.default, p.annotation) for name, p in named.items()} == {
                    name: (shown[name].default, shown[name].annotation) for name in named
                }
        assert set(CONNECTION) <= set(shown)

    def test_its_parameters_are_documented(self, cls):
        own = {
            name
            for name, parameter in inspect.signature(inspect.unwrap(cls.__init__)).parameters.items()
            if name != "self" and parameter.kind is not parameter.VAR_KEYWORD
        }
        text = "".join(inspect.getdoc(base) or "" for base in cls.__mro__ if base.__module__.startswith("airflow_prov"))
        assert {name for name in own if f":param {name}:" not in text} <= set(CONNECTION)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("PersonalizeCreateBatchInferenceJobOperator", "Personalize: create batch inference job"),
        ("PersonalizeBatchSegmentJobSensor", "Personalize: batch segment job sensor"),
        ("PersonalizeToSqlOperator", "Personalize to SQL"),
        ("PersonalizeToDynamoDbOperator", "Personalize to DynamoDB"),
        ("SqlToPersonalizeInputOperator", "SQL to Personalize input"),
    ],
)
def test_the_ui_names_operators_in_words(name, told):
    assert name_in_ui(name) == told


def methods_that_airflow_calls(cls):
    """The names of a class's own public methods that take the task's context: a task starts or resumes there."""
    return {
        name
        for base in cls.__mro__
        if base.__module__.startswith("airflow_prov")
        for name, value in vars(base).items()
        if inspect.isfunction(value) and not name.startswith("_") and "context" in inspect.signature(value).parameters
    }


@pytest.mark.parametrize("cls", operator_classes(), ids=by_name)
class TestFailures:
    @pytest.mark.parametrize("may_pass", [False, True])
    def test_what_can_never_succeed_is_not_retried(self, cls, may_pass):
        """Whichever method meets it; what may pass is raised as it is, and Airflow retries."""

        def fails(self, context):
            raise InvalidRequestError("expected this, got that", may_pass=may_pass)

        names = methods_that_airflow_calls(cls)
        assert "execute" in names
        broken = type("Broken", (cls,), dict.fromkeys(names, fails))(**arguments(cls))
        for name in names:
            with pytest.raises(InvalidRequestError, match=r"^expected this, got that$") as caught:
                getattr(broken, name)({})
            assert isinstance(caught.value, AirflowFailException) is not may_pass
            copy = pickle.loads(pickle.dumps(caught.value))
            assert (type(copy), str(copy), copy.may_pass) == (type(caught.value), "expected this, got that", may_pass)

    def test_a_mistake_of_the_connection_is_not_retried(self, cls, monkeypatch):
        """Each operator as it is: no database of that name, or no such profile."""
        ti = SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=-1)
        monkeypatch.setenv("AIRFLOW_CONN_MY_AWS", '{"conn_type": "aws", "extra": {"profile_name": "nobody"}}')
        with pytest.raises(AirflowFailException) as caught:
            cls(**arguments(cls) | {"verify": None}).execute({"ti": ti})
        assert isinstance(caught.value, PersonalizeError)
        assert re.search("profile_name|`shop`", str(caught.value))

    @pytest.mark.parametrize(("code", "is_final"), [("AccessDenied", True), ("SlowDown", False)])
    def test_a_refusal_that_no_call_has_seen_to(self, cls, code, is_final):
        def fails(self, context):
            raise ClientError({"Error": {"Code": code, "Message": "not you"}}, "PutObject")

        with pytest.raises((ServiceError, ClientError)) as caught:
            type("Broken", (cls,), {"execute": fails})(**arguments(cls)).execute({})
        assert isinstance(caught.value, ServiceError) is isinstance(caught.value, AirflowFailException) is is_final


def exception_classes():
    """Every exception of the package, the stand-in's too."""
    loaded = [
        importlib.import_module(info.name)
        for info in pkgutil.walk_packages([str(PACKAGE)], f"{airflow_provider_personalize.__name__}.")
    ]
    return sorted(
        {
            value
            for module in loaded
            for value in vars(module).values()
            if inspect.isclass(value) and issubclass(value, Exception) and value.__module__ == module.__name__
        },
        key=by_name,
    )


@pytest.mark.parametrize("cls", exception_classes(), ids=by_name)
def test_every_exception_survives_pickling(cls):
    takes_its_own = any("__init__" in vars(base) for base in cls.__mro__ if base.__module__.startswith("airflow_prov"))
    taken = inspect.signature(cls).parameters if takes_its_own else {}
    given = {
        name: EXCEPTION_SAMPLES.get(name, name)
        for name, parameter in taken.items()
        if parameter.kind not in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}
    }
    error = cls(**given) if given else cls("what went wrong")
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.args) == (cls, str(error), error.args)
    assert vars(copy) == vars(error)
    if issubclass(cls, PersonalizeError):
        assert {name: getattr(copy, name) for name in given} == given
        declared = {name for base in cls.__mro__ for name in vars(base).get("__annotations__", {})}
        assert set(given) <= declared


@pytest.mark.parametrize("cls", trigger_classes(), ids=by_name)
class TestTriggers:
    def test_it_is_rebuilt_from_what_it_serializes(self, cls):
        trigger = cls(**arguments(cls))
        path, values = trigger.serialize()
        module, _, name = path.rpartition(".")
        copy = getattr(importlib.import_module(module), name)(**json.loads(json.dumps(values)))
        assert type(copy) is cls
        assert copy.serialize() == (path, values)

    def test_it_serializes_all_that_it_takes(self, cls):
        _, values = cls(**arguments(cls)).serialize()
        assert set(values) == set(inspect.signature(cls.__init__).parameters) - {"self"}
        assert values.items() >= CONNECTION.items()

    def test_its_hook_gets_the_connection(self, cls):
        hook = cls(**arguments(cls)).hook()
        assert (hook.aws_conn_id, hook._region_name, hook._verify) == ("my_aws", "eu-west-1", "/ca.pem")
        assert hook._config.read_timeout == 7


@pytest.mark.parametrize("cls", link_classes(), ids=by_name)
class TestLinks:
    def test_it_is_named(self, cls):
        assert cls.name
        assert cls.key
        assert cls.format_str.startswith("https://")
        assert [other for other in link_classes() if cls.key == other.key or cls.name == other.name] == [cls]

    def test_airflow_is_told_of_it(self, cls):
        assert f"{cls.__module__}.{cls.__name__}" in get_provider_info()["extra-links"]


def test_the_provider_info_is_valid():
    import airflow
    import jsonschema

    schema = json.loads((Path(airflow.__path__[0]) / "provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


def test_the_provider_info_names_every_module():
    info = get_provider_info()
    named = {
        module
        for group in ("hooks", "operators", "sensors", "triggers")
        for entry in info[group]
        for module in entry["python-modules"]
    } | {entry["python-module"] for entry in info["transfers"]}
    assert {cls.__module__ for cls in [*operator_classes(), *trigger_classes()]} <= named
    for module in named:
        importlib.import_module(module)


def modules_loaded_by(statement):
    """The top-level packages that a fresh interpreter has loaded after a statement."""
    code = f"import sys\n{statement}\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return set(out.splitlines()[-1].split())


def test_a_dag_file_pays_for_airflow_and_nothing_more():
    names = sorted({cls.__module__ for cls in operator_classes()})
    ours = modules_loaded_by(f"import {', '.join(names)}")
    airflows = modules_loaded_by(
        "import airflow.providers.amazon.aws.operators.bedrock, airflow.providers.amazon.aws.sensors.bedrock, "
        "airflow.providers.amazon.aws.hooks.s3"
    )
    assert ours - airflows <= {airflow_provider_personalize.__name__}


def test_pure_modules_need_neither_airflow_nor_boto3():
    names = [
        f"{airflow_provider_personalize.__name__}.{name}"
        for room in pure()
        for name in [
            room,
            *(
                f"{room}.{info.name}"
                for info in pkgutil.iter_modules([str(PACKAGE / room)])
                if (PACKAGE / room).is_dir()
            ),
        ]
    ]
    loaded = modules_loaded_by(f"import {', '.join(names)}")
    assert not loaded & {"airflow", "boto3", "botocore", "numpy", "pandas", "duckdb", "polars", "pyarrow"}


def make_dag():
    from airflow.providers.common.compat.sdk import DAG

    return DAG("example", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC))


def serialized(dag):
    try:
        from airflow.serialization.serialized_objects import DagSerialization
    except ImportError:
        from airflow.serialization.serialized_objects import SerializedDAG as DagSerialization
    return DagSerialization.to_dict(dag)


def rebuilt(data):
    try:
        from airflow.serialization.serialized_objects import DagSerialization
    except ImportError:
        from airflow.serialization.serialized_objects import SerializedDAG as DagSerialization
    return DagSerialization.from_dict(data)
