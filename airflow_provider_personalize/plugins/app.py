"""
What the API server serves under ``/personalize``: it only reads, and asks Airflow who may.

Everything comes from here: no page loads anything from elsewhere. A page that a task has written is shown in a frame
that may do nothing but look as it looks; the only script that runs there is one whose digest the task itself noted.
"""

# FastAPI reads the annotations of the routes as they are made, so they cannot be left as text.

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

if TYPE_CHECKING:
    from starlette.responses import Response

_HERE = Path(__file__).parent

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


@cache
def app() -> Any:
    """Return the application, which is made once in a process."""
    from typing import Annotated

    from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
    from fastapi import Depends, FastAPI, HTTPException, Query, Request
    from fastapi.exceptions import RequestValidationError
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
