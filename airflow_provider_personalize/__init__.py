"""Apache Airflow provider for the batch side of Amazon Personalize."""

__version__ = "0.1.0"
