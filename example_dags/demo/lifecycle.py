"""
What ``make demo-lifecycle`` shows: a model's life, from an empty account to the nightly email list, twice.

``personalize_setup`` makes what a model stands on, ``weekly_retrain`` imports, trains and checks, and
``nightly_email_list`` asks the version that has passed. Then a film comes out that nearly everybody watches, and
another one is withdrawn; the last two DAGs run again, and the list has changed.
"""

# ruff: noqa: T201 - it prints, that is what it is for

from __future__ import annotations

from typing import Any

from example_dags.demo.data import fill, fill_history
from example_dags.demo.progress import Progress, cut, run_dag
from example_dags.demo.runs import StackError
from example_dags.demo.stack import Stack

SETUP, RETRAIN, NIGHTLY = DAGS = ("personalize_setup", "weekly_retrain", "nightly_email_list")
NEW = ("new-1", "The Lighthouse (premiere)", "Drama|Mystery")
#: Of so many people, one has not watched the new film.
NOT_YET_EVERY = 10
#: What of the metrics is shown.
METRICS = ("normalized_discounted_cumulative_gain_at_10", "precision_at_10", "mean_reciprocal_rank_at_25", "coverage")

Lists = dict[str, list[str]]


def lifecycle(stack: Stack, progress: Progress) -> int:
    """Run the chain twice, show what came of it, and return the exit code."""
    with stack:
        live(stack, progress)
    progress.say("done")
    return 0


def live(stack: Stack, progress: Progress) -> None:
    """
    Run the chain twice on a stack that has been started, and show what came of it.

    :raises StackError: if a task fails, or the list does not follow the import.
    """
    people, _ = fill(stack.warehouse)
    views = fill_history(stack.warehouse)
    progress.say(f"PostgreSQL holds {people} subscribers and {views:,} views; the account at Personalize is empty")
    run_dag(stack, progress, SETUP)
    first = one_week(stack, progress)
    gone = most_recommended(first)
    change(stack, gone)
    progress.say(f"{NEW[1]} comes out, and {title_of(stack, gone)} is withdrawn")
    second = one_week(stack, progress)
    show_metrics(stack)
    show_lists(stack, first, second, gone)


def one_week(stack: Stack, progress: Progress) -> Lists:
    """Retrain, make the list, and return the films of each email, in their order."""
    run_dag(stack, progress, RETRAIN)
    run_dag(stack, progress, NIGHTLY)
    rows = stack.warehouse.execute("SELECT user_id, array_agg(item_id ORDER BY rank) FROM email_list GROUP BY user_id")
    return dict(rows)


def most_recommended(lists: Lists) -> str:
    """Return the film that stands in the most emails."""
    films = [film for listed in lists.values() for film in listed]
    return max(sorted(set(films)), key=films.count)


def change(stack: Stack, gone: str) -> None:
    """Let a film come out that nearly everybody watches, and withdraw another one."""
    execute = stack.warehouse.execute
    execute("INSERT INTO items VALUES (%s, %s, %s)", list(NEW))
    # In the middle of what each one has watched: the newest views of all are what the check holds out.
    execute(
        "INSERT INTO views SELECT user_id, %s, percentile_disc(0.5) WITHIN GROUP (ORDER BY watched) FROM views "
        "WHERE CAST(user_id AS integer) %% %s <> 0 GROUP BY user_id",
        [NEW[0], NOT_YET_EVERY],
    )
    execute("DELETE FROM views WHERE item_id = %s", [gone])


def title_of(stack: Stack, film: str) -> str:
    """Return a film's title."""
    [(title,)] = stack.warehouse.execute("SELECT COALESCE(title, item_id) FROM items WHERE item_id = %s", [film])
    return str(title)


def show_metrics(stack: Stack) -> None:
    """Print the metrics of each version, oldest first, and whether it has passed."""
    client = stack.client("personalize")
    columns = {}
    for solution, words in (("popularity-count", "popular"), ("user-personalization", "model")):
        for number, (arn, tags) in enumerate(versions_of(client, solution), 1):
            has_passed = " (passed)" if tags.get("quality") == "passed" else ""
            columns[f"{words} {number}{has_passed}"] = client.get_solution_metrics(solutionVersionArn=arn)["metrics"]
    print(f"\n  {'metric on held-out data':<44}" + "".join(f"{name:>18}" for name in columns))
    for metric in METRICS:
        print(f"  {metric:<44}" + "".join(f"{metrics[metric]:>18.4f}" for metrics in columns.values()))


def versions_of(client: Any, solution: str) -> list[tuple[str, dict[str, str]]]:
    """Return the ARN and the tags of each version of a solution, oldest first."""
    [arn] = [one["solutionArn"] for one in client.list_solutions()["solutions"] if one["name"] == solution]
    versions = client.list_solution_versions(solutionArn=arn)["solutionVersions"]
    arns = [one["solutionVersionArn"] for one in sorted(versions, key=lambda one: one["creationDateTime"])]
    tags = [client.list_tags_for_resource(resourceArn=arn)["tags"] for arn in arns]
    return [(arn, {tag["tagKey"]: tag["tagValue"] for tag in own}) for arn, own in zip(arns, tags, strict=True)]


def show_lists(stack: Stack, first: Lists, second: Lists, gone: str) -> None:
    """
    Print what has changed in the list.

    :raises StackError: if it does not follow the import.
    """
    not_yet = [user for user in second if int(user) % NOT_YET_EVERY == 0]
    reached = sum(NEW[0] in second[user] for user in not_yet)
    counts = {
        film: [sum(film in listed for listed in lists.values()) for lists in (first, second)] for film in (gone, NEW[0])
    }
    if counts[gone][1] or reached < len(not_yet) / 2:
        raise StackError(
            f"Expected {gone} in no email, and {NEW[0]} in most of those to the {len(not_yet)} who did not watch it, "
            f"got the one in {counts[gone][1]}, the other in {reached}."
        )
    titles = dict(stack.warehouse.execute("SELECT item_id, COALESCE(title, item_id) FROM items"))
    print(f"\n  {'':<18} {'the first list':<44} {'after the second import':<44}")
    print(f"  {'-' * 18} {'-' * 44} {'-' * 44}")
    names = dict(stack.warehouse.execute("SELECT user_id, name FROM subscribers"))
    for user in sorted(not_yet, key=int)[:3]:
        for rank, (before, after) in enumerate(zip(first[user], second[user], strict=True)):
            mark = " *" if after not in first[user] else ""
            print(f"  {names[user] if rank == 0 else '':<18} {cut(titles[before], 44)} {titles[after]}{mark}")
    same = sum(first[user] == second[user] for user in second)
    print(
        f"\n  {len(second):,} emails, {len(second) - same:,} of them changed (* is new in an email)."
        f"\n  {titles[gone]}: in {counts[gone][0]:,} emails before, in {counts[gone][1]:,} after."
        f"\n  {NEW[1]}: in {counts[NEW[0]][0]:,} emails before, in {counts[NEW[0]][1]:,} after; among them are "
        f"{reached} of the {len(not_yet)} people who have not watched it yet."
    )
    for page in sorted((stack.state / "previews").glob("training_*.html")):
        print(f"  To look at the check of the newest version, open {page}")
