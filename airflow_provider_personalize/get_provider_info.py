"""What Airflow's provider discovery asks for, through the ``apache_airflow_provider`` entry point."""

from __future__ import annotations

from typing import Any

from airflow_provider_personalize import __version__


def get_provider_info() -> dict[str, Any]:
    """Describe this provider, valid against Airflow's ``provider_info.schema.json``."""
    integration = "Amazon Personalize"
    package = "airflow_provider_personalize"
    return {
        "package-name": "airflow-provider-personalize",
        "name": integration,
        "description": "Batch recommendations and user segments of `Amazon Personalize <https://aws.amazon.com/personalize/>`__.",
        "integrations": [
            {
                "integration-name": integration,
                "external-doc-url": "https://docs.aws.amazon.com/personalize/latest/dg/recommendations-batch.html",
                "tags": ["aws"],
            }
        ],
        "hooks": [{"integration-name": integration, "python-modules": [f"{package}.hooks.personalize"]}],
        "operators": [
            {
                "integration-name": integration,
                "python-modules": [
                    f"{package}.operators.batch",
                    f"{package}.operators.data",
                    f"{package}.operators.output_check",
                    f"{package}.operators.training",
                    *(f"{package}.operators.{name}" for name in ("resources", "data_resources", "model_resources")),
                ],
            }
        ],
        "sensors": [
            {
                "integration-name": integration,
                "python-modules": [f"{package}.sensors.batch", f"{package}.sensors.resources"],
            }
        ],
        "triggers": [{"integration-name": integration, "python-modules": [f"{package}.triggers.personalize"]}],
        "transfers": [
            {
                "source-integration-name": "SQL",
                "target-integration-name": integration,
                "python-module": f"{package}.transfers.sql_to_personalize",
            },
            {
                "source-integration-name": "SQL",
                "target-integration-name": integration,
                "python-module": f"{package}.transfers.sql_to_personalize_dataset",
            },
            {
                "source-integration-name": integration,
                "target-integration-name": "SQL",
                "python-module": f"{package}.transfers.personalize_to_sql",
            },
            {
                "source-integration-name": integration,
                "target-integration-name": integration,
                "python-module": f"{package}.transfers.personalize_delta",
            },
            {
                "source-integration-name": integration,
                "target-integration-name": "Parquet",
                "python-module": f"{package}.transfers.personalize_to_parquet",
            },
            {
                "source-integration-name": integration,
                "target-integration-name": "Iceberg",
                "python-module": f"{package}.transfers.personalize_to_iceberg",
            },
            {
                "source-integration-name": integration,
                "target-integration-name": "Amazon DynamoDB",
                "python-module": f"{package}.transfers.personalize_to_dynamodb",
            },
        ],
        "config": {
            "personalize": {
                "description": "Settings for Amazon Personalize.",
                "options": {
                    f"price_per_{name}": {
                        "description": f"What {what}, from AWS's page of prices, in any currency. Tasks then "
                        "estimate their costs, in their logs and in XCom. Nothing is estimated without it.",
                        "version_added": __version__,
                        "type": "float",
                        "example": example,
                        "default": None,
                    }
                    for name, what, example in (
                        ("1000_results", "1,000 results of a batch job cost", "0.05"),
                        ("training_hour", "a training hour costs", "0.25"),
                        ("gb_imported", "the import of a gigabyte (10⁹ bytes) costs", "0.05"),
                    )
                }
                | {
                    "ui_connections": {
                        "description": "The AWS connections whose batch jobs, imports and trainings the page "
                        "Personalize in Airflow's UI lists, separated by commas. The page is off where it is empty.",
                        "version_added": __version__,
                        "type": "string",
                        "example": "aws_default,aws_eu",
                        "default": "",
                    },
                },
            }
        },
        "extra-links": [
            *(
                f"{package}.links.personalize.{name}"
                for name in ("PersonalizeJobLink", "PersonalizeSolutionLink", "PersonalizeOutputLink")
            ),
            f"{package}.links.reports.PersonalizeReportLink",
        ],
        # Airflow looks here where providers are discovered at once; by default it takes the entry point.
        "plugins": [{"name": "personalize", "plugin-class": f"{package}.plugins.plugin.PersonalizePlugin"}],
    }
