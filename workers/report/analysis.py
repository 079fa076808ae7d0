"""analysis.html: the analysis as a page, one file, no scripts, nothing from elsewhere."""

from markupsafe import Markup

from app.domain.analysis import ModelAnalysis
from workers.report.graph import draw
from workers.report.html import ENVIRONMENT


def page(analysis: ModelAnalysis) -> str:
    """Graph and table of an analysis."""
    return ENVIRONMENT.get_template("analysis.html.jinja").render(
        a=analysis,
        graph=Markup(draw(analysis.layers, analysis.edges, {})),  # noqa: S704  (escaped there)
    )
