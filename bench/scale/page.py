"""The generated sections of docs/scaling.md: the points, the model, and what it says.

Owns their names. All figures of that page are in them, so a new run cannot contradict its prose.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.scale.forecast_page import forecast_section
from bench.scale.model import fit_model
from bench.scale.model_page import model_section
from bench.scale.points_page import points_section

if TYPE_CHECKING:
    from bench.scale.points import Run

MEASURED, MODEL, FORECAST = "scale points", "scale model", "scale forecast"


def sections(run: Run) -> dict[str, str]:
    """The text of each section. Raises ValueError if the points do not determine the model."""
    model = fit_model(run.points)
    return {
        MEASURED: points_section(run),
        MODEL: model_section(run.points, model),
        FORECAST: forecast_section(run.points, model),
    }
