"""Writes what the reference of the plan language takes from the code: its JSON Schema, and the tables of its keys.

A test compares both with the code; after a change of the language, run this and read the difference.
"""

import json
from pathlib import Path

from surgeline.plan.schema import key_tables, plan_schema

REFERENCE = Path(__file__).resolve().parent.parent / "docs" / "reference"
BEGIN = "<!-- written by scripts/plan_reference.py -->\n"
END = "<!-- end -->\n"


def with_tables(page: str) -> str:
    """The page with the tables as the code has them now."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n{key_tables()}\n{END}{rest.partition(END)[2]}"


def schema_text() -> str:
    """The JSON Schema as it is published."""
    return json.dumps(plan_schema(), indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Writes both files."""
    page = REFERENCE / "plan.md"
    page.write_text(with_tables(page.read_text(encoding="utf-8")), encoding="utf-8")
    (REFERENCE / "plan.schema.json").write_text(schema_text(), encoding="utf-8")


if __name__ == "__main__":
    main()
