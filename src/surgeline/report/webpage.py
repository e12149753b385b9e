"""How does a document become one HTML page that needs nothing else?

A template, its style sheet and values come in, text leaves. The page needs no network and no script: its
Content-Security-Policy forbids everything but that one style sheet, known by its hash. Every text is escaped by the
template engine unless `drawing` says that a module of ours has done so.
"""

import base64
import hashlib
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import jinja2
from markupsafe import Markup

from surgeline.report.text import shown


def drawing(svg: str) -> Markup:
    """A drawing whose every text its maker has escaped, as `svg` does."""
    return Markup(svg)  # noqa: S704 - made by our own modules, texts escaped there


def quoted(text: object) -> str:
    """A sentence of ours with what it has between backticks, as in Markdown, between quotation marks."""
    return re.sub("`([^`]*)`", "“\\1”", str(text))


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("surgeline.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(shown=shown, drawing=drawing, quoted=quoted)
    return environment


@lru_cache
def _style(name: str) -> str:
    loader = _environment().loader
    assert loader is not None  # noqa: S101 - given above
    source, _, _ = loader.get_source(_environment(), name)
    return source


def rendered(
    template: str, style: str, values: Mapping[str, Any], filters: Mapping[str, Callable[..., Any]] | None = None
) -> str:
    """The page: `template` with `values`, and the style sheet of that name in it. The same input gives the same text.

    The template finds the sheet as `style` and the policy as `csp`; `filters` are its own, beside `shown`,
    `drawing` and `quoted`.
    """
    sheet = _style(style)
    environment = _environment().overlay()
    environment.filters = {**environment.filters, **(filters or {})}
    text = environment.get_template(template).render(
        **values,
        style=Markup(sheet),  # noqa: S704 - our own style sheet
        csp=_csp(sheet),
    )
    return text.rstrip("\n") + "\n"


def _csp(sheet: str) -> str:
    """Nothing may be loaded, sent or run; of styles only this one, known by its hash."""
    digest = base64.b64encode(hashlib.sha256(sheet.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
