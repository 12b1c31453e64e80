"""
What ``make demo``, ``make demo-lifecycle`` and ``make airflow`` run.

``demo`` runs the DAG ``nightly_email_list`` once and shows what came of it; ``lifecycle`` begins with an empty account
(:mod:`example_dags.demo.lifecycle`); ``airflow`` leaves everything up, to be looked at in a browser, until Ctrl-C. None
leaves a process behind, however it ends.
"""

# ruff: noqa: T201 - it prints, that is what it is for

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from example_dags.demo.data import fill, fill_history
from example_dags.demo.lifecycle import DAGS, lifecycle
from example_dags.demo.processes import ProcessDiedError
from example_dags.demo.progress import Interrupted, Progress, cut, run_dag, stop_as_an_orphan
from example_dags.demo.runs import StackError
from example_dags.demo.stack import PASSWORD, USER, Stack

DAG = "nightly_email_list"
TOP_N = 5
NUM_RESULTS = 25


def _interrupt(number: int, _frame: FrameType | None) -> None:
    # The first one begins the clean end, which the next ones must not cut short: the guard would wait for them anyway.
    for handled in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(handled, signal.SIG_IGN)
    raise Interrupted(number)


@contextmanager
def _alone(state: Path) -> Iterator[None]:
    """Keep a second one out of the folder, for as long as this process lives."""
    state.mkdir(parents=True, exist_ok=True)
    with (state / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"Another demo is running in {state}. Stop that one first, or use another --state.")
        yield


def default_state() -> Path:
    """Return ``.demo`` here, or, where that belongs to somebody else, a folder of one's own."""
    here = Path(".demo")
    if os.access(here if here.exists() else ".", os.W_OK) and (not here.exists() or here.stat().st_uid == os.getuid()):
        return here
    return Path.home() / ".personalize-demo"


def only(dag_ids: Iterable[str], state: Path) -> Path:
    """Return a folder with some of the example DAGs, since parsing all of them would take longer than running one."""
    examples = Path(__file__).parents[1]
    folder = state / "dags"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in (*(f"{dag_id}.py" for dag_id in dag_ids), "templates"):
        (folder / name).symlink_to(examples / name)
    return folder


def show_result(stack: Stack, people: int, subscribed: int) -> None:
    """
    Print what the run has made.

    :raises StackError: if the tables do not hold what they should.
    """
    execute = stack.warehouse.execute
    [(recommendations,)] = execute("SELECT count(*) FROM recommendations")
    [(rows, emails, wrong)] = execute(
        "SELECT count(*), count(DISTINCT user_id), "
        "count(*) FILTER (WHERE NOT subscribed OR title IS NULL OR score IS NULL) "
        "FROM email_list JOIN subscribers USING (user_id)"
    )
    expected = (people * NUM_RESULTS, subscribed * TOP_N, subscribed, 0)
    found = (recommendations, rows, emails, wrong)
    if found != expected:
        raise StackError(
            "Expected (rows of recommendations, rows of email_list, people in email_list, rows there of people who "
            f"are not subscribed, or without title or score) = {expected}, got {found}."
        )
    names = ("email_list", "recommendations")
    pages = [page for name in names for page in (stack.state / "previews").glob(f"{name}_*.html")]
    if len(pages) != len(names):
        raise StackError(f"Expected an HTML page of each of {names} in {stack.state / 'previews'}, got {pages}.")

    print(f"\n  {'to':<18} {'':>2} {'title':<52} {'genres':<28} {'score':>7}")
    print(f"  {'-' * 18} {'-' * 2} {'-' * 52} {'-' * 28} {'-' * 7}")
    for name, rank, title, genres, score in execute(
        "SELECT name, rank, title, genres, score FROM email_list "
        "WHERE user_id IN (SELECT user_id FROM email_list WHERE rank = 1 ORDER BY length(user_id), user_id LIMIT 3) "
        "ORDER BY length(user_id), user_id, rank"
    ):
        to = name if rank == 1 else ""
        print(f"  {to:<18} {rank:>2} {cut(title, 52)} {cut(genres.replace('|', ', '), 28)} {score:>7.4f}")
    jobs = len(stack.client("personalize").list_batch_inference_jobs()["batchInferenceJobs"])
    print(
        f"\n  {people:,} users asked for, {jobs} job, {recommendations:,} recommendations loaded."
        f"\n  email_list: {emails:,} emails of {TOP_N} titles; {people - subscribed} left out, who are not subscribed."
        f"\n  To look at the emails, open {pages[0]}"
        f"\n  To look at what was recommended as a whole, open {pages[1]}"
    )


def demo(stack: Stack, progress: Progress) -> int:
    """Run the DAG once, show the result, and return the exit code."""
    with stack:
        people, subscribed = fill(stack.warehouse)
        progress.say(f"PostgreSQL holds {people} subscribers; the stand-in for Personalize is ready")
        run_dag(stack, progress, DAG)
        show_result(stack, people, subscribed)
    progress.say("done")
    return 0


def airflow(stack: Stack, progress: Progress) -> int:
    """Leave everything running until a signal comes, and return the exit code."""
    with stack:
        fill(stack.warehouse)
        fill_history(stack.warehouse)
        stack.import_connections()
        stack.wait_for_ui()
        stack.wait_for_dag(DAG)
        stack.unpause(DAG)
        progress.say("ready")
        print(
            f"\n  Airflow    {stack.ui_url}   user: {USER}   password: {PASSWORD}"
            f"\n  The DAG    {stack.ui_url}/dags/{DAG}"
            "\n             (last night's run has begun by itself; Trigger, at the top right, begins another)"
            f"\n  Database   {stack.warehouse.uri}"
            f"\n  Previews   {stack.state / 'previews'}"
            f"\n  Stand-in   AWS_ENDPOINT_URL={stack.endpoint_url}"
            f"\n  Logs       {stack.processes.log_dir}"
            "\n\n  Ctrl-C ends all of it.",
            flush=True,
        )
        while True:
            stack.check()
            time.sleep(1)
            stop_as_an_orphan()


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["demo", "lifecycle", "airflow"])
    parser.add_argument("--state", type=Path, default=default_state(), help="folder for all that is written")
    parser.add_argument(
        "--job-seconds", type=float, help="how long a Personalize job takes (default: 10; for lifecycle: 1)"
    )
    options = parser.parse_args()
    for handled in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(handled, _interrupt)
    is_lifecycle = options.what == "lifecycle"
    shown = {"demo": (DAG,), "lifecycle": DAGS}.get(options.what)
    progress = Progress(brief=is_lifecycle)
    try:
        with _alone(options.state):
            if shown:
                shutil.rmtree(options.state / "previews", ignore_errors=True)
            stack = Stack(
                options.state,
                job_seconds=options.job_seconds or (1 if is_lifecycle else 10),
                empty=is_lifecycle,
                in_a_hurry=is_lifecycle,
                ui=options.what == "airflow",
                dags_folder=only(shown, options.state.resolve()) if shown else None,
            )
            progress.say("starting PostgreSQL, the stand-in for Personalize, and Airflow")
            try:
                return {"demo": demo, "lifecycle": lifecycle, "airflow": airflow}[options.what](stack, progress)
            except (StackError, ProcessDiedError) as error:
                logs = f"{stack.processes.log_dir} and {stack.home / 'logs'}"
                print(f"\n{error}\nLogs: {logs}", file=sys.stderr)
                return 1
    except Interrupted as interrupted:
        print("\nStopped; no process is left.", file=sys.stderr)
        return 0 if options.what == "airflow" else 128 + interrupted.number


if __name__ == "__main__":
    sys.exit(main())
