"""The result document is what its published schema says, whatever was measured."""

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

import report_examples as examples
from surgeline.analysis.model import Summary
from surgeline.report import document
from surgeline.report.schema import SCHEMA

PUBLISHED = Path(__file__).parent.parent / "docs" / "reference" / "result.schema.json"


def check(summary: Summary) -> None:
    """Makes the document, writes it, reads it back, and holds it against the schema."""
    made = json.loads(document.dump(document.result_document(summary, examples.FINDINGS)))
    jsonschema.Draft202012Validator(SCHEMA).validate(made)


def test_the_published_schema_is_the_one_in_the_code():
    """docs/reference/result.schema.json is what `surgeline schema result` prints."""
    assert json.loads(PUBLISHED.read_text()) == SCHEMA
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("slo", ["", "p95 < 300ms, errors < 1%", "p99.9 < 5s", "POST /checkout: p95 < 300ms"])
def test_a_run_with_and_without_objectives_fits_the_schema(slo):
    """Every key is described, and no described key is missing."""
    check(examples.shop(slo))


def test_a_run_that_measured_nothing_fits_the_schema():
    """Nothing due, nothing answered: absent numbers are null with a reason, never zero and never left out."""
    check(examples.summary_of([], (1, 2), 4))


def test_a_run_with_unreadable_descriptions_fits_the_schema():
    """A run.json with missing or strange entries still gives a document of the published form."""
    check(replace(examples.shop(), run={}))
    check(replace(examples.shop(), run={"id": 7, "subject": [], "ended": "x", "git": [1], "source": None}))
