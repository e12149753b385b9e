"""What does the report look like in a browser?

A document comes in, one self-contained HTML page leaves. It needs no network and no script: the Content-Security-Policy
in it forbids everything but its own style sheet, known by its hash, and the plots are SVG made by `svg`. Its first
screen, and its first sheet on paper, is the page; the plots over time and the details follow.
"""

import base64
import hashlib

import jinja2
from markupsafe import Markup

from surgeline import units
from surgeline.report import cells
from surgeline.report.cells import Document
from surgeline.report.text import shown

_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.PackageLoader("surgeline.report"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters.update(
    shown=shown,
    duration=units.format_duration,
    ratio=units.format_ratio,
    count=units.format_count,
    rate=units.format_rate,
    size=units.format_size,
)
_ENVIRONMENT.globals["cells"] = cells


def render(document: Document) -> str:
    """The report. The same document gives the same text."""
    style = _style()
    return _ENVIRONMENT.get_template("report.html").render(
        document=document,
        status=cells.status(document),
        style=Markup(style),  # noqa: S704 - our own style sheet
        csp=_csp(style),
    )


def _style() -> str:
    loader = _ENVIRONMENT.loader
    assert loader is not None  # noqa: S101 - given above
    source, _, _ = loader.get_source(_ENVIRONMENT, "report.css")
    return source


def _csp(style: str) -> str:
    """Nothing may be loaded, sent or run; of styles only this one, known by its hash."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
