"""Writes docs/reference/cli.md from the command line itself.

`python scripts/cli_reference.py` after any change of a command; a test compares. What a command does stands in its own
help, so the page and `--help` cannot say different things.
"""

import os
from pathlib import Path

os.environ["COLUMNS"] = "110"

import click

from surgeline.cli import surgeline

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "cli.md"
WIDTH = 110
HEAD = """# Command line

Every command and option, as `--help` prints them. Results go to standard output, everything else to standard error;
[exit codes](exit-codes.md) say what came of it. Colour is left out where standard output is no terminal, or where
`NO_COLOR` is set; `FORCE_COLOR` brings it back.

This page is made by `scripts/cli_reference.py`.
"""


def page() -> str:
    """The whole page."""
    return HEAD + "".join(_sections(surgeline, "surgeline", None))


def _sections(command: click.Command, path: str, parent: click.Context | None) -> list[str]:
    width = {"max_content_width": WIDTH, "terminal_width": WIDTH}
    context = click.Context(command, parent, path.split()[-1], **{**command.context_settings, **width})
    text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
    sections = [f"\n## {path}\n\n```\n{text}\n```\n"]
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            if found is not None:
                sections += _sections(found, f"{path} {name}", context)
    return sections


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
