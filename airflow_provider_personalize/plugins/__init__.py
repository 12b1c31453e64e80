"""
Pages and tabs in Airflow's own UI (Airflow 3.1 and newer).

Whatever runs Airflow imports :mod:`~airflow_provider_personalize.plugins.plugin`, every task included; the rest is
imported by the API server alone, most of it when somebody first opens a page.
"""
