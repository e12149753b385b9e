"""Writes docs/reference/comparison.schema.json, the JSON Schema of comparison documents, from the code.

A test compares both; after a change of the document, run this and read the difference.
"""

import json
from pathlib import Path

from surgeline.report.comparison import SCHEMA

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "comparison.schema.json"


if __name__ == "__main__":
    PAGE.write_text(json.dumps(SCHEMA, indent=2, ensure_ascii=False) + "\n", "utf-8")
