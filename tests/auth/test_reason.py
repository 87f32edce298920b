"""The reasons of denials, and the response that each one gets."""

from __future__ import annotations

import pytest

from sidecar.auth.reason import INSUFFICIENT_SCOPE, INVALID_REQUEST, INVALID_TOKEN, Reason


def test_labels_are_distinct_words() -> None:
    """Each reason has a unique label of lower-case words for metrics."""
    labels = [reason.label for reason in Reason]
    assert len(set(labels)) == len(labels)
    assert all(label.replace("_", "").islower() for label in labels)


@pytest.mark.parametrize("reason", Reason)
def test_status_and_error_belong_together(reason: Reason) -> None:
    """RFC 6750 section 3.1 assigns one status to each error code."""
    status = {INVALID_REQUEST: 400, INVALID_TOKEN: 401, INSUFFICIENT_SCOPE: 403}
    assert reason.error is None or status[reason.error] == reason.status
    assert reason.status in {400, 401, 403, 503}
