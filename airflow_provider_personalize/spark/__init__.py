"""The application for Spark: a file to submit, which imports nothing of this package."""
