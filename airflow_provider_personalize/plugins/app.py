"""
What the API server serves under ``/personalize``: it only reads, and asks Airflow who may.

Everything comes from here: no page loads anything from elsewhere. A page that a task has written is shown in a frame
that may do nothing but look as it looks; the only script that runs there is one whose digest the task itself noted.
"""

# FastAPI reads the annotations of the routes as they are made, so they cannot be left as text.

from asyncio import gather, shield, wrap_future
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future

    from starlette.responses import Response

    from airflow_provider_personalize.plugins.once import Once
    from airflow_provider_personalize.plugins.overview import Overview

_HERE = Path(__file__).parent
#: For how long what AWS said is good: however many people look, it is asked once in that time.
SECONDS = 30
#: How many jobs of a connection are in sight at once; the older ones are a click away.
FEW = 20

#: What the provider's own pages may load: their own style, script and frames.
_OWN = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; frame-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'"
)
#: What a page that a task has written may load: nothing. It stands in no origin, so it sees neither cookie nor API.
_WRITTEN = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; script-src {scripts}; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'; "
    "sandbox{allowed} allow-popups allow-popups-to-escape-sandbox allow-top-navigation-by-user-activation"
)
_HEADERS = {"Cache-Control": "no-store", "Referrer-Policy": "same-origin", "X-Content-Type-Options": "nosniff"}


@cache
def _templates() -> Any:
    from jinja2 import Environment, FileSystemLoader

    return Environment(loader=FileSystemLoader(_HERE / "templates"), autoescape=True, trim_blocks=True)


def _page(template: str, status: int = 200, **values: Any) -> "Response":
    from starlette.responses import HTMLResponse

    text = _templates().get_template(template).render(**values)
    return HTMLResponse(text, status, {**_HEADERS, "Content-Security-Policy": _OWN})


def _index(value: str | None) -> int:
    """Return a map index; -1 for that of a task that is not mapped, which Airflow leaves out or as a placeholder."""
    return int(value) if value is not None and value.isascii() and value.isdigit() and len(value) < 10 else -1


def _connections() -> list[str]:
    """Return the connections that the page Personalize shows, as configured."""
    from airflow_provider_personalize.compat import conf

    names = str(conf.get("personalize", "ui_connections", fallback="") or "").split(",")
    return list(dict.fromkeys(name.strip() for name in names if name.strip()))


@cache
def _overviews() -> "Once[Overview]":
    from concurrent.futures import ThreadPoolExecutor

    from airflow_provider_personalize.plugins.once import Once

    return Once(SECONDS, ThreadPoolExecutor(4, "personalize"))


def _overview_of(conn_id: str) -> "Future[Overview]":
    from airflow_provider_personalize.plugins.overview import look

    return _overviews().get(conn_id, look)


def _jobs_page(overviews: "Sequence[Overview]", readable: set[str]) -> "Response":
    now = datetime.now(UTC)

    def age(then: datetime | None) -> str:
        """Return how long ago something was, in a word or two."""
        seconds = (now - then).total_seconds() if then else None
        if seconds is None:
            return "not known"
        for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
            if seconds >= 2 * size:
                return f"{seconds // size:,.0f} {unit}"
        return f"{max(seconds, 0):.0f} s"

    costs = any(job.made_by and job.made_by.cost is not None for each in overviews for job in each.jobs)
    return _page("jobs.html", overviews=overviews, readable=readable, age=age, costs=costs, seconds=SECONDS, few=FEW)


@cache
def app() -> Any:
    """Return the application, which is made once in a process."""
    from typing import Annotated

    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
    from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag, requires_access_view
    from fastapi import Depends, FastAPI, HTTPException, Query, Request
    from fastapi.exceptions import RequestValidationError
    from starlette.concurrency import run_in_threadpool
    from starlette.responses import Response
    from starlette.staticfiles import StaticFiles

    made = FastAPI(title="Amazon Personalize", docs_url=None, redoc_url=None, openapi_url=None)
    made.mount("/static", StaticFiles(directory=_HERE / "static"), name="static")

    name = Annotated[str, Query(min_length=1, max_length=1000)]

    def reads_dag(request: Request, user: GetUserDep, dag_id: name) -> None:
        """Let nobody pass who may not read the DAG that the address names; Airflow decides."""
        requires_access_dag("GET", None, dag_id)(request, user)

    @made.get("/reports", dependencies=[Depends(reads_dag)])
    def reports(
        dag_id: name, run_id: name, task_id: str | None = None, map_index: str | None = None, shown: int = 0
    ) -> Response:
        """Show what a run's tasks, or one of them, have written."""
        from airflow_provider_personalize.plugins.reports import notes_of

        index = None if task_id is None else _index(map_index)
        notes = notes_of(dag_id, run_id, task_id, index)
        tab = {"dag_id": dag_id, "run_id": run_id}
        if task_id is not None:
            tab |= {"task_id": task_id, "map_index": str(index)}
        pages = [
            {
                "note": note,
                "tab": "reports?" + urlencode({**tab, "shown": number}),
                "page": "report?"
                + urlencode({"dag_id": dag_id, "run_id": run_id, "task_id": note.task_id, "map_index": note.map_index}),
            }
            for number, note in enumerate(notes)
        ]
        chosen = pages[shown if 0 <= shown < len(pages) else 0] if pages else None
        return _page("reports.html", pages=pages, chosen=chosen, one_task=task_id is not None)

    @made.get("/report", dependencies=[Depends(reads_dag)])
    def report(dag_id: name, run_id: name, task_id: name, map_index: str | None = None) -> Response:
        """Serve a page that a task has written, from where the task noted that it is."""
        from airflow_provider_personalize.plugins.reports import NotShownError, notes_of, read_page

        notes = notes_of(dag_id, run_id, task_id, _index(map_index))
        if not notes:
            return _page("sentence.html", 404, sentence="The task has noted no page.")
        try:
            written = read_page(notes[0])
        except NotShownError as error:
            return _page("sentence.html", 404, sentence=str(error))
        scripts = " ".join(f"'{one}'" for one in notes[0].scripts)
        policy = _WRITTEN.format(scripts=scripts or "'none'", allowed=" allow-scripts" if scripts else "")
        return Response(
            written, headers={**_HEADERS, "Content-Security-Policy": policy}, media_type="text/html; charset=utf-8"
        )

    def readable_dags(user: GetUserDep) -> set[str]:
        """Return the DAGs whose runs the page may name."""
        return set(get_auth_manager().get_authorized_dag_ids(user=user))

    @made.get("/jobs", dependencies=[Depends(requires_access_view(AccessView.PLUGINS))])
    async def jobs(readable: Annotated[set[str], Depends(readable_dags)]) -> Response:
        """Show what the configured connections have. The threads that wait for AWS are not those that serve pages."""
        overviews = await gather(*(shield(wrap_future(_overview_of(conn_id))) for conn_id in _connections()))
        return await run_in_threadpool(_jobs_page, overviews, readable)

    @made.exception_handler(HTTPException)
    def refused(_: Request, error: HTTPException) -> Response:
        sentences = {
            401: "You are not logged in, or your login has expired. Log in to Airflow, and open this page again.",
            403: "You may not see this. It takes the permission to read the DAG, or for the page Personalize to see "
            "plugins; whoever looks after Airflow can give it to you.",
        }
        sentence = sentences.get(error.status_code, str(error.detail))
        return _page("sentence.html", error.status_code, sentence=sentence)

    @made.exception_handler(RequestValidationError)
    def wrong(_: Request, error: RequestValidationError) -> Response:
        fields = ", ".join(sorted({str(one["loc"][-1]) for one in error.errors()}))
        return _page("sentence.html", 422, sentence=f"The address of this page is not whole: expected {fields}.")

    return made
