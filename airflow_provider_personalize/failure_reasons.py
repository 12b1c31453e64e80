"""
What to do about a ``failureReason`` of the service. Each row is a reason that has been seen; the runbook has them all.

This module is pure: it imports neither Airflow nor boto3.
"""

from __future__ import annotations

import re

_FEW_INTERACTIONS = (
    "A training needs at least 1,000 interactions, and 25 users with 2 of them each. Import more, or train with fewer "
    "event types left out (the solution's eventType and its value threshold)."
)

#: What a reason says, in any case, and what to do about it. The service adds names and numbers of its own.
REMEDIES: tuple[tuple[str, str], ...] = (
    (
        "insufficient privileges",
        (
            "The job's role needs s3:GetObject, s3:ListBucket and s3:PutObject on the buckets, each bucket's policy "
            "must let the service principal personalize.amazonaws.com in, and an encrypted bucket's KMS key policy "
            "too. A bucket that is open only to a VPC does not work."
        ),
    ),
    (
        "invalid data location",
        (
            "No file that the job can read lies at that address. Compare it with what is in the bucket; a folder ends "
            "in '/', and the bucket has to be in the job's region."
        ),
    ),
    (
        r"input csv is missing the following columns",
        (
            "Every column that the dataset's schema requires has to be in the header of every file under the address, "
            "named as in the schema and not quoted. SqlToPersonalizeDatasetOperator writes them so."
        ),
    ),
    (
        r"fewer than \d+ users with at least \d+ interactions",
        _FEW_INTERACTIONS,
    ),
    (r"fewer than \d+ interactions", _FEW_INTERACTIONS),
    (
        r"length cannot be more than .* characters",
        (
            "A value of that column is too long: an id takes 256 characters, a category 1,000. Shorten it, or leave "
            "the row out. SqlToPersonalizeDatasetOperator finds such values, with their rows, before the import."
        ),
    ),
    (
        "there should be updates to at least one dataset",
        (
            "Nothing was imported since the solution's last full training, so there is nothing to train on. Import "
            "first, or use the version that is there."
        ),
    ),
)


def remedy_of(failure_reason: str | None) -> str:
    """Return what to do about a ``failureReason``; the empty text where none is known."""
    found = (remedy for pattern, remedy in REMEDIES if re.search(pattern, failure_reason or "", re.IGNORECASE))
    return next(found, "")
