"""Airflow's own API server in this process, with its real login, and what its database knows of runs."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

#: Who the simple auth manager lets in, and with which role; ``nobody`` has none.
ROLES = {"viewer": "viewer", "nobody": ""}


class Server:
    """The API server, asked without a network, as one of several people."""

    def __init__(self) -> None:
        from airflow.api_fastapi.app import create_app, get_auth_manager
        from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

        self.app = create_app(apps="core")
        manager = get_auth_manager()
        self._tokens = {
            name: manager.generate_jwt(SimpleAuthManagerUser(username=name, role=role)) for name, role in ROLES.items()
        }

    def get(self, path: str, user: str | None = "viewer", **query: Any) -> Any:
        """Ask for a page with the cookie that a browser has after the login; ``user=None`` has not logged in."""
        from starlette.testclient import TestClient

        client = TestClient(self.app, cookies={"_token": self._tokens[user]} if user else {})
        return client.get(path, params={name: value for name, value in query.items() if value is not None} or None)


def noted(key: str, value: Any, *, task_id: str = "check", map_index: int = -1, **ids: str) -> dict[str, str]:
    """Have a task note something in XCom; returns the ids of its DAG and its run, made up by default."""
    from airflow.models.dag import DagModel
    from airflow.models.dagbundle import DagBundleModel
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import insert, select

    made = {"dag_id": f"dag {secrets.token_hex(4)}", "run_id": f"run+{secrets.token_hex(4)}"} | ids
    now = datetime.now(UTC)

    def add(table: Any, **values: Any) -> None:
        where = [table.c[column.name] == values[column.name] for column in table.primary_key if column.name in values]
        if not where or session.execute(select(table).where(*where)).first() is None:
            wanted = {column.name: _any(column, now) for column in table.columns if _is_wanted(column)}
            session.execute(insert(table).values(**wanted | values))

    with create_session() as session:
        add(DagBundleModel.__table__, name="tests", active=True)
        add(DagModel.__table__, dag_id=made["dag_id"], bundle_name="tests")
        known = select(DagRun.id).where(DagRun.dag_id == made["dag_id"], DagRun.run_id == made["run_id"])
        if session.scalar(known) is None:
            session.add(DagRun(**made, run_type="manual", run_after=now, logical_date=now))
            session.flush()
        here: Mapping[str, Any] = {**made, "task_id": task_id, "map_index": map_index}
        task = select(TaskInstance.id).where(*(getattr(TaskInstance, name) == each for name, each in here.items()))
        if session.scalar(task) is None:
            session.execute(
                insert(TaskInstance.__table__).values(
                    **here, pool="default_pool", pool_slots=1, try_number=1, max_tries=0
                )
            )
        # As the API that tasks talk to does it.
        session.merge(XComModel(dag_run_id=session.scalar(known), key=key, value=value, **here))
    return made


def _is_wanted(column: Any) -> bool:
    return not (column.nullable or column.primary_key or column.default or column.server_default)


def _any(column: Any, now: datetime) -> Any:
    """Return a value for a column that has to have one, whichever this version of Airflow has."""
    kind = column.type.python_type
    return now if kind is datetime else kind(0)
