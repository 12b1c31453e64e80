"""The operators that move a dataset's rows: import, export, and the deletion of users."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.amazon.aws.utils.mixins import aws_template_fields

from airflow_provider_personalize.arguments import Reader, flag, form, required
from airflow_provider_personalize.aws_errors import describe_error
from airflow_provider_personalize.exceptions import InvalidRequestError, ServiceError
from airflow_provider_personalize.hooks.personalize import IfJobExists
from airflow_provider_personalize.lineage import job_lineage
from airflow_provider_personalize.links.personalize import PersonalizeJobLink, PersonalizeOutputLink
from airflow_provider_personalize.operators.base import DEFAULT_QUOTA_WAIT, PersonalizeCreateJobOperator
from airflow_provider_personalize.operators.mixins import passed_on
from airflow_provider_personalize.service.data_requests import (
    ImportMode,
    IngestionMode,
    build_deletion_request,
    build_export_request,
    build_import_request,
    check_dataset_arn,
    check_dataset_group_arn,
    read_import_mode,
    read_ingestion_mode,
)
from airflow_provider_personalize.service.kinds import (
    DATA_DELETION_JOB,
    DATASET_EXPORT_JOB,
    DATASET_IMPORT_JOB,
    State,
)
from airflow_provider_personalize.service.names import check_kms_key_arn, check_role_arn, kind_of
from airflow_provider_personalize.service.waits import DEFAULT_POLL_INTERVAL, DEFAULT_TIMEOUT
from airflow_provider_personalize.uris import parse_s3_uri

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.sdk import BaseOperatorLink

    from airflow_provider_personalize.operators.costs import Counts


class PersonalizeDataJobOperator(PersonalizeCreateJobOperator, abstract=True):
    """
    Create a job over a dataset, or over all datasets of a group; what these jobs have in common.

    The dataset, or the group, has to be ACTIVE: that is looked at before anything is created.

    Every other parameter is that of
    :class:`~airflow_provider_personalize.operators.base.PersonalizeCreateJobOperator`.

    :param role_arn: The IAM role that Personalize assumes to read or write the bucket.
    """

    template_fields: Sequence[str] = aws_template_fields(*PersonalizeCreateJobOperator.template_fields, "role_arn")
    argument_readers: ClassVar[Mapping[str, Reader]] = {
        "role_arn": required(form(check_role_arn)),
        **PersonalizeCreateJobOperator.argument_readers,
    }
    operator_extra_links: Collection[BaseOperatorLink] = (PersonalizeJobLink(),)

    def __init__(self, *, role_arn: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.role_arn = role_arn
        self.check_literals()

    def check_request(self, request: dict[str, Any]) -> Counts | None:
        """Make sure that the dataset, or the group, is ACTIVE, unless the job is there already."""
        arn = str(request[str(self.resource_kind.parent_field)])
        try:
            seen = self.hook.get_status(arn)
        except Exception as error:
            if isinstance(error, ServiceError) and error.code == "ResourceNotFoundException":
                raise
            # As where the permission is missing: a check must not keep a job from being created that would succeed.
            self.log.warning("%s could not be looked at, and is left to the service: %s", arn, describe_error(error))
            return None
        if seen.state is State.SUCCEEDED:
            return None
        if self.if_job_exists == "reuse" and self.hook.has_job(self.resource_kind, request):
            return None
        words = kind_of(arn).words
        remedy = (
            f"Wait for it first, and run this task again. The {words}:"
            if seen.state is State.RUNNING
            else f"Make the {words} anew, or name another one. This one:"
        )
        raise InvalidRequestError(
            f"Expected a {words} that is ACTIVE, got one that is {seen.status}; no {self.resource_kind.words} was "
            f"created. {remedy} {arn}",
            may_pass=seen.state is State.RUNNING,
        )


class PersonalizeCreateDatasetImportJobOperator(PersonalizeDataJobOperator):
    """
    Import CSV files on S3 into a dataset.

    Every other parameter is that of
    :class:`~airflow_provider_personalize.operators.base.PersonalizeCreateJobOperator`.

    .. seealso:: https://docs.aws.amazon.com/personalize/latest/dg/API_CreateDatasetImportJob.html

    :param dataset_arn: The dataset. It has to be ACTIVE.
    :param data_location: The S3 URI of a CSV file, or of the folder that holds the files. At most 256 characters.
    :param role_arn: The IAM role that Personalize assumes to read the files.
    :param import_mode: ``FULL`` replaces what was imported into the dataset before, ``INCREMENTAL`` adds to it. Batch
        segment jobs know only what a FULL import has brought.
    :param publish_attribution_metrics_to_s3: Whether the job writes its metric attribution's metrics to S3.
    """

    resource_kind = DATASET_IMPORT_JOB
    template_fields: Sequence[str] = aws_template_fields(
        *PersonalizeDataJobOperator.template_fields, "data_location", "dataset_arn", "import_mode"
    )
    argument_readers: ClassVar[Mapping[str, Reader]] = {
        **PersonalizeDataJobOperator.argument_readers,
        "dataset_arn": required(form(check_dataset_arn)),
        "data_location": required(form(parse_s3_uri)),
        "import_mode": read_import_mode,
        "publish_attribution_metrics_to_s3": required(flag),
    }

    def __init__(
        self,
        *,
        dataset_arn: str,
        data_location: str,
        role_arn: str,
        import_mode: ImportMode = "FULL",
        publish_attribution_metrics_to_s3: bool = False,
        job_name: str | None = None,
        tags: dict[str, str] | None = None,
        if_job_exists: IfJobExists = "reuse",
        wait_for_completion: bool = False,
        deferrable: bool | None = None,
        poll_interval: float | timedelta = DEFAULT_POLL_INTERVAL,
        timeout: float | timedelta = DEFAULT_TIMEOUT,
        quota_wait_timeout: float | timedelta = DEFAULT_QUOTA_WAIT,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        own = ("dataset_arn", "data_location", "import_mode", "publish_attribution_metrics_to_s3")
        super().__init__(**passed_on(locals(), but=own))
        self.dataset_arn = dataset_arn
        self.data_location = data_location
        self.import_mode = import_mode
        self.publish_attribution_metrics_to_s3 = publish_attribution_metrics_to_s3
        self.check_literals()

    def build_request(self) -> dict[str, Any]:
        """Return the create request, without the job's name."""
        return build_import_request(
            dataset_arn=self.dataset_arn,
            data_location=self.data_location,
            role_arn=self.role_arn,
            import_mode=self.import_mode,
            publish_attribution_metrics_to_s3=self.publish_attribution_metrics_to_s3,
            tags=self.tags,
        )

    def check_request(self, request: dict[str, Any]) -> Counts | None:
        """Make sure that the dataset is ACTIVE, warn of interactions that segment jobs do not see, and count files."""
        from airflow_provider_personalize.operators.costs import count_import

        if self.import_mode == "INCREMENTAL" and self.dataset_arn.endswith("/INTERACTIONS"):
            self.log.warning(
                "Batch segment jobs use only interactions of FULL imports that were there at the last full training: "
                "they never see those of this INCREMENTAL import. Import with import_mode='FULL', and train, before "
                "jobs of the recipes Item-Affinity and Item-Attribute-Affinity."
            )
        super().check_request(request)
        return count_import(self.hook, self.data_location)

    def get_openlineage_facets_on_start(self) -> OperatorLineage[Any, Any]:
        """Return where the job reads, for OpenLineage, at the start and again at the end."""
        return job_lineage(self.data_location, None)


class PersonalizeCreateDatasetExportJobOperator(PersonalizeDataJobOperator):
    """
    Export the rows of a dataset to S3.

    Every other parameter is that of
    :class:`~airflow_provider_personalize.operators.base.PersonalizeCreateJobOperator`.

    .. seealso:: https://docs.aws.amazon.com/personalize/latest/dg/API_CreateDatasetExportJob.html

    :param dataset_arn: The dataset. It has to be ACTIVE.
    :param output_uri: The S3 URI of the folder that takes the files. At most 256 characters.
    :param role_arn: The IAM role that Personalize assumes to write the files.
    :param ingestion_mode: Which rows: those of imports (``BULK``), those of events and single records (``PUT``), or
        both (``ALL``).
    :param output_kms_key_arn: The KMS key to encrypt the files with.
    """

    resource_kind = DATASET_EXPORT_JOB
    template_fields: Sequence[str] = aws_template_fields(
        *PersonalizeDataJobOperator.template_fields, "dataset_arn", "ingestion_mode", "output_kms_key_arn", "output_uri"
    )
    argument_readers: ClassVar[Mapping[str, Reader]] = {
        **PersonalizeDataJobOperator.argument_readers,
        "dataset_arn": required(form(check_dataset_arn)),
        "output_uri": required(form(parse_s3_uri)),
        "ingestion_mode": read_ingestion_mode,
        "output_kms_key_arn": form(check_kms_key_arn),
    }
    operator_extra_links: Collection[BaseOperatorLink] = (PersonalizeJobLink(), PersonalizeOutputLink())

    def __init__(
        self,
        *,
        dataset_arn: str,
        output_uri: str,
        role_arn: str,
        ingestion_mode: IngestionMode = "PUT",
        output_kms_key_arn: str | None = None,
        job_name: str | None = None,
        tags: dict[str, str] | None = None,
        if_job_exists: IfJobExists = "reuse",
        wait_for_completion: bool = False,
        deferrable: bool | None = None,
        poll_interval: float | timedelta = DEFAULT_POLL_INTERVAL,
        timeout: float | timedelta = DEFAULT_TIMEOUT,
        quota_wait_timeout: float | timedelta = DEFAULT_QUOTA_WAIT,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        own = ("dataset_arn", "output_uri", "ingestion_mode", "output_kms_key_arn")
        super().__init__(**passed_on(locals(), but=own))
        self.dataset_arn = dataset_arn
        self.output_uri = output_uri
        self.ingestion_mode = ingestion_mode
        self.output_kms_key_arn = output_kms_key_arn
        self.check_literals()

    def build_request(self) -> dict[str, Any]:
        """Return the create request, without the job's name."""
        return build_export_request(
            dataset_arn=self.dataset_arn,
            output_uri=self.output_uri,
            role_arn=self.role_arn,
            ingestion_mode=self.ingestion_mode,
            output_kms_key_arn=self.output_kms_key_arn,
            tags=self.tags,
        )

    def get_openlineage_facets_on_start(self) -> OperatorLineage[Any, Any]:
        """Return where the job writes, for OpenLineage, at the start and again at the end."""
        return job_lineage(None, self.output_uri)


class PersonalizeCreateDataDeletionJobOperator(PersonalizeDataJobOperator):
    """
    Delete all that the datasets of a group hold of some users. It may take a day.

    A model that was trained before knows these users until it is trained anew. Every other parameter is that of
    :class:`~airflow_provider_personalize.operators.base.PersonalizeCreateJobOperator`; the job's last status is
    COMPLETED.

    .. seealso:: https://docs.aws.amazon.com/personalize/latest/dg/API_CreateDataDeletionJob.html

    :param dataset_group_arn: The dataset group. It has to be ACTIVE.
    :param data_location: The S3 URI of the CSV file that lists the users in its column USER_ID, or of the folder that
        holds such files. At most 256 characters.
    :param role_arn: The IAM role that Personalize assumes to read the files.
    """

    resource_kind = DATA_DELETION_JOB
    template_fields: Sequence[str] = aws_template_fields(
        *PersonalizeDataJobOperator.template_fields, "data_location", "dataset_group_arn"
    )
    argument_readers: ClassVar[Mapping[str, Reader]] = {
        **PersonalizeDataJobOperator.argument_readers,
        "dataset_group_arn": required(form(check_dataset_group_arn)),
        "data_location": required(form(parse_s3_uri)),
    }

    def __init__(
        self,
        *,
        dataset_group_arn: str,
        data_location: str,
        role_arn: str,
        job_name: str | None = None,
        tags: dict[str, str] | None = None,
        if_job_exists: IfJobExists = "reuse",
        wait_for_completion: bool = False,
        deferrable: bool | None = None,
        poll_interval: float | timedelta = DEFAULT_POLL_INTERVAL,
        timeout: float | timedelta = DEFAULT_TIMEOUT,
        quota_wait_timeout: float | timedelta = DEFAULT_QUOTA_WAIT,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**passed_on(locals(), but=("dataset_group_arn", "data_location")))
        self.dataset_group_arn = dataset_group_arn
        self.data_location = data_location
        self.check_literals()

    def build_request(self) -> dict[str, Any]:
        """Return the create request, without the job's name."""
        return build_deletion_request(
            dataset_group_arn=self.dataset_group_arn,
            data_location=self.data_location,
            role_arn=self.role_arn,
            tags=self.tags,
        )

    def get_openlineage_facets_on_start(self) -> OperatorLineage[Any, Any]:
        """Return where the job reads, for OpenLineage, at the start and again at the end."""
        return job_lineage(self.data_location, None)
