"""The output of a batch job, into a table of DynamoDB."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn, get_args

from airflow.providers.amazon.aws.operators.base_aws import AwsBaseOperator
from airflow.providers.amazon.aws.utils.mixins import aws_template_fields

from airflow_provider_personalize.arguments import (
    ReadArguments,
    Reader,
    exactly_one,
    flag,
    form,
    one_of,
    required,
    share,
    text,
    whole_number,
)
from airflow_provider_personalize.compat import Context, conf
from airflow_provider_personalize.exceptions import JobTimeoutError
from airflow_provider_personalize.hooks.personalize import PersonalizeHook
from airflow_provider_personalize.lineage import Amount, LoadLineage, place_lineage
from airflow_provider_personalize.links.personalize import JOB_LINKS
from airflow_provider_personalize.operators.job_output import JobOutput, JobOutputMixin
from airflow_provider_personalize.operators.mixins import PersonalizeTaskMixin
from airflow_provider_personalize.operators.query_files import folder
from airflow_provider_personalize.s3.objects import StoredObject, part_of
from airflow_provider_personalize.service.names import digest, job_kind_of
from airflow_provider_personalize.service.waits import DEFAULT_TIMEOUT, deadline_after, in_seconds
from airflow_provider_personalize.targets.counts import LoadCounts, settle
from airflow_provider_personalize.targets.dynamodb.calls import DynamoDbCalls
from airflow_provider_personalize.targets.dynamodb.importing import NewTable
from airflow_provider_personalize.targets.dynamodb.items import (
    ATTRIBUTES,
    EXPIRES_AT,
    LOAD_ID,
    check_table_name,
    read_attributes,
)
from airflow_provider_personalize.targets.dynamodb.table import keys_for
from airflow_provider_personalize.targets.dynamodb.target import DynamoDbTarget, ExistingTable, Sink
from airflow_provider_personalize.targets.loader import Loader
from airflow_provider_personalize.targets.plan import LoadPlan
from airflow_provider_personalize.triggers.events import until_trigger
from airflow_provider_personalize.uris import parse_uri

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

Mode = Literal["put", "new_table"]


class PersonalizeToDynamoDbOperator(
    ReadArguments, PersonalizeTaskMixin, JobOutputMixin, AwsBaseOperator[PersonalizeHook]
):
    """
    Load the output of a batch job into a table of DynamoDB: one item for each user, item or segment.

    An item has its key under the name of the entity's column (``user_id``, ``item_id`` or ``segment``), the results in
    their order as the list ``items``, their scores as the list ``scores`` (NULL where the recipe gives none), where the
    line has a theme ``theme`` and ``theme_relevance``, and ``load_id``: 16 digits that are the same for all items, all
    parts and each retry of a load. An entity that stands in several lines has the results of all of them, one after the
    other. A segment is spread over items of up to 256 KB: the sort key counts them from 0.

    With ``mode="put"`` each item takes the place of what its key held, and other items stay: a reader sees an item of
    before or of after, never a mix, but of the table both at once. With ``mode="new_table"`` the load makes a table of
    its own, which is complete or is not there. Either way, all lines are looked at before anything is written, so too
    many rejects, an item that is too large or a key that is empty change nothing. A retry gives the same items.

    :param job_arn: The job whose output to load; it has to be ACTIVE. Give this one or ``output_uri``.
    :param output_uri: What to load: an S3 object, all ``.out`` and ``.out.gz`` objects under an S3 prefix that ends in
        ``/``, or the same of files as ``file:///…``.
    :param table_name: The table.
    :param mode: ``put``, item by item into a table, or ``new_table``, a table that DynamoDB makes by an import from S3.
    :param partition_key: The table's partition key, which is text; by default named as the entity's column.
    :param sort_key: The table's sort key. It takes the number of a segment's item (by default ``chunk``); for users and
        items it has to be among ``extra_attributes``, and has that value.
    :param ttl: For how long an item stays: ``expires_at`` is the start of the run plus this. Items of entities that are
        not in the output any more are then deleted by DynamoDB, if the table's TTL is set to ``expires_at``.
    :param extra_attributes: What all items have: ``{"run_date": "{{ ds }}"}``.
    :param create_table: Whether to make the table, on-demand, where it is missing.
    :param max_reject_rate: The share of the lines, 0.0 to 1.0, that may be rejected; with more, the load fails.
    :param part: Which part of the output objects this task loads, from 0; of mapped tasks, each has its own.
    :param parts: How many parts there are. Each judges its own lines.
    :param staging_uri: For ``new_table``: an S3 prefix that takes the items for as long as the import runs.
    :param deferrable: For ``new_table``: whether to wait for the import in the triggerer.
    :param poll_interval: Seconds, or a timedelta, between two looks at the import.
    :param timeout: Seconds, or a timedelta, after which the wait for the import gives up.
    :return: ``job_arn``, ``table_name``, ``load_id``, ``files``, ``lines``, ``rows``, ``rejects``, ``items``, ``bytes``
        and ``seconds``.
    """

    aws_hook_class = PersonalizeHook
    ui_color = "#e6f2ea"
    operator_extra_links = JOB_LINKS
    template_fields: Sequence[str] = aws_template_fields(
        "extra_attributes",
        "job_arn",
        "mode",
        "output_uri",
        "partition_key",
        "sort_key",
        "staging_uri",
        "table_name",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"extra_attributes": "json"}
    argument_readers: ClassVar[Mapping[str, Reader]] = {
        "table_name": required(form(check_table_name)),
        "job_arn": form(job_kind_of),
        "output_uri": form(parse_uri),
        "mode": required(one_of(get_args(Mode))),
        "partition_key": text,
        "sort_key": text,
        "extra_attributes": read_attributes,
        "create_table": flag,
        "max_reject_rate": share,
        "part": required(whole_number(0)),
        "parts": required(whole_number(1)),
        "staging_uri": form(folder),
        "deferrable": flag,
    }

    def __init__(
        self,
        *,
        table_name: str,
        job_arn: str | None = None,
        output_uri: str | None = None,
        mode: Mode = "put",
        partition_key: str | None = None,
        sort_key: str | None = None,
        ttl: timedelta | None = None,
        extra_attributes: Mapping[str, Any] | None = None,
        create_table: bool = True,
        max_reject_rate: float = 0.0,
        part: int = 0,
        parts: int = 1,
        staging_uri: str | None = None,
        deferrable: bool | None = None,
        poll_interval: float | timedelta = 30,
        timeout: float | timedelta = DEFAULT_TIMEOUT,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        connection: dict[str, Any] = {"aws_conn_id": aws_conn_id, "region_name": region_name, "verify": verify}
        super().__init__(**connection, botocore_config=botocore_config, **kwargs)
        self.job_arn = job_arn
        self.output_uri = output_uri
        self.table_name = table_name
        self.mode = mode
        self.partition_key = partition_key
        self.sort_key = sort_key
        self.ttl = None if ttl is None else timedelta(seconds=in_seconds(ttl, "ttl"))
        self.extra_attributes = extra_attributes
        self.create_table = create_table
        self.max_reject_rate = max_reject_rate
        self.part = part
        self.parts = parts
        self.staging_uri = staging_uri
        if deferrable is None:
            deferrable = conf.getboolean("operators", "default_deferrable", fallback=False)
        self.deferrable = deferrable
        self.poll_interval = in_seconds(poll_interval, "poll_interval")
        self.timeout = in_seconds(timeout, "timeout")
        self.loaded = LoadLineage()
        self._region: str | None = None
        self.check_literals()

    def execute(self, context: Context) -> dict[str, Any]:
        """Load the output."""
        self.read_arguments()
        begun = time.time()
        output = self.job_output(context)
        objects = part_of(output.objects, self.part, self.parts)
        size = sum(item.size for item in objects)
        load_id = digest(output.version(), 16)
        self.log.info(
            "Loading %s object(s), %.1f MB, into %s as load_id %s.", len(objects), size / 1e6, self.table_name, load_id
        )
        done = {
            "job_arn": self.job_arn,
            "table_name": self.table_name,
            "load_id": load_id,
            "files": len(objects),
            "bytes": size,
            "begun": begun,
        }
        calls = self._calls()
        if self.mode == "put":
            sink = ExistingTable(calls, self.log, create=self.create_table, expiring=self.ttl is not None)
            counts, items = self._load(context, output, objects, load_id, sink)
            return self._finish(context, done, counts, items)
        load = digest([load_id, self.table_name, self.partition_key, self.sort_key, self.extra_attributes], 16)
        new_table = self._new_table(calls, load)
        if (found := new_table.find()) is None:
            counts, items = self._load(context, output, objects, load_id, new_table)
        else:
            self.log.info("An earlier try has staged or imported the same output: that is gone on with.")
            counts, items = found.counts, found.items
        if new_table.staged:
            new_table.begin()
            started = getattr(context.get("ti"), "start_date", None)
            deadline = deadline_after(self.timeout, self.execution_timeout, started)
            self._wait(new_table, load=load, deadline=deadline, done={**done, "counts": list(counts), "items": items})
        return self._finish(context, done, counts, items)

    def execute_complete(
        self, context: Context, event: Any, load: str, deadline: float, done: dict[str, Any]
    ) -> dict[str, Any]:
        """
        Look at the import, and go on waiting, in the triggerer, where it is not done.

        :param context: The task's context.
        :param event: The time at which the trigger fired; it says nothing of the import.
        :param load: What identifies the load.
        :param deadline: When the wait gives up.
        :param done: What the load has come to.
        """
        self.read_arguments()
        self._wait(self._new_table(self._calls(), load), load=load, deadline=deadline, done=done)
        counts, items = LoadCounts(*done.pop("counts")), done.pop("items")
        return self._finish(context, done, counts, items)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Return what was loaded, and into which table, for OpenLineage."""
        return place_lineage(self.loaded, f"dynamodb://{self._region or ''}", self.table_name)

    def conflicts(self, known: Mapping[str, Any]) -> Iterator[str]:
        """Yield an error for each combination of arguments that cannot be right."""
        yield from exactly_one(known, "job_arn", "output_uri")
        if known.keys() >= {"part", "parts"} and known["part"] >= known["parts"]:
            yield f"part: expected less than parts, from 0, got {known['part']} of {known['parts']}."
        keys = [known.get(name) for name in ("partition_key", "sort_key")]
        for key in set(keys) & set(ATTRIBUTES):
            yield f"Expected keys with other names than {', '.join(ATTRIBUTES)}, which the loader gives, got {key!r}."
        if keys[0] and (keys[0] == keys[1] or keys[0] in (known.get("extra_attributes") or ())):
            yield f"partition_key: expected a name that neither sort_key nor extra_attributes has, got {keys[0]!r}."
        if known.get("mode") == "new_table":
            if "staging_uri" in known and not known["staging_uri"]:
                yield "mode='new_table' imports from S3: expected staging_uri, a prefix for what is imported, got none."
            if known.get("parts", 1) > 1:
                yield "mode='new_table' makes a table by one import: expected parts=1. Load parts with mode='put'."
            if str(known.get("table_name", "")).startswith("arn:"):
                yield f"mode='new_table' makes a table: expected its name in table_name, got {known['table_name']!r}."

    def _calls(self) -> DynamoDbCalls:
        client = self.hook.dynamodb_client()
        self._region = client.meta.region_name
        return DynamoDbCalls(client, self.table_name, self.log)

    def _new_table(self, calls: DynamoDbCalls, load: str) -> NewTable:
        return NewTable(calls, self.s3_client(), folder(str(self.staging_uri), parameter="staging_uri"), load, self.log)

    def _load(
        self, context: Context, output: JobOutput, objects: Sequence[StoredObject], load_id: str, sink: Sink
    ) -> tuple[LoadCounts, int]:
        """Return what was loaded, and how many items that made."""
        extra = self.extra_attributes or {}
        plan = LoadPlan(source=output.version(), write_mode="merge", max_reject_rate=self.max_reject_rate)
        with Loader(objects, self.s3_client, log=self.log, kind=output.kind) as loader:
            kind = loader.kind()
            if loader.counts.lines == loader.counts.rejects:
                # Of lines, or of a part, that give no rows, nobody knows the kind.
                settle(loader.counts, plan.max_reject_rate, examples=loader.examples)
                self.log.info("There is nothing to load: no line has a result.")
                return loader.counts, 0
            keys = keys_for(kind, self.partition_key, self.sort_key, extra)
            target = DynamoDbTarget(
                self.table_name,
                plan,
                kind,
                keys=keys,
                constants={**extra, LOAD_ID: load_id, **self._expiry(context)},
                sink=sink,
                again=loader.again,
            )
            with target:
                counts = loader.load(target, plan.columns(kind)).counts
            for example in loader.examples:
                self.log.warning("Rejected: %s", example)
            self.log.info("Written: %s item(s). %s", f"{target.items:,}", loader.progress)
            return counts, target.items

    def _expiry(self, context: Context) -> dict[str, int]:
        if self.ttl is None:
            return {}
        # Parts and retries begin at other times, and give the same items.
        started = getattr(context.get("dag_run"), "start_date", None)
        begin = started.timestamp() if isinstance(started, datetime) else time.time()
        return {EXPIRES_AT: int(begin + self.ttl.total_seconds())}

    def _wait(self, new_table: NewTable, *, load: str, deadline: float, done: dict[str, Any]) -> None:
        while not new_table.is_done(expiring=self.ttl is not None):
            if (left := deadline - time.time()) <= 0:
                raise JobTimeoutError(
                    kind="table import",
                    job_arn=str(new_table.staged and new_table.staged.import_arn),
                    status="IN_PROGRESS",
                    waited=time.time() - done["begun"],
                )
            pause = min(self.poll_interval, left)
            if self.deferrable:
                self._defer_for(pause, load=load, deadline=deadline, done=done)
            time.sleep(pause)

    def _defer_for(self, seconds: float, **wait: Any) -> NoReturn:
        self.defer(trigger=until_trigger(time.time() + seconds), method_name="execute_complete", kwargs=wait)
        raise AssertionError("defer() raises.")

    def _finish(self, context: Context, done: dict[str, Any], counts: LoadCounts, items: int) -> dict[str, Any]:
        files, size, seconds = done["files"], done["bytes"], time.time() - done["begun"]
        self.loaded.read = Amount(counts.lines, size, files)
        self.loaded.written = Amount(items)
        result = {
            **{name: done[name] for name in ("job_arn", "table_name", "load_id", "files")},
            **counts._asdict(),
            "items": items,
            "bytes": size,
            "seconds": round(seconds, 3),
        }
        for outlet in self.outlets:
            context["outlet_events"][outlet].extra.update(result)
        return result
