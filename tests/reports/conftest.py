"""The rows assert outside of test modules: pytest explains those assertions as well."""

from __future__ import annotations

import pytest

for _name in ("applications", "keys", "operating", "report", "signing_in", "site", "tokens"):
    pytest.register_assert_rewrite(f"tests.reports.{_name}")
