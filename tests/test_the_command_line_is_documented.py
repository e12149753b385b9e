"""What a user can type is written down, and what is written down can be typed."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from surgeline import cli

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The script that writes the reference."""
    spec = importlib.util.spec_from_file_location("cli_reference", ROOT / "scripts" / "cli_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_says_what_the_help_says(script: ModuleType) -> None:
    """`docs/reference/cli.md` is made from the commands; `python scripts/cli_reference.py` makes it again."""
    assert script.PAGE.read_text("utf-8") == script.page()


def test_every_command_and_option_has_a_sentence() -> None:
    """A command says what it does, an option what it is for."""
    import click

    def walk(command: click.Command) -> list[click.Command]:
        found = [command]
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                inner = command.get_command(context, name)
                assert inner is not None
                found += walk(inner)
        return found

    for command in walk(cli.surgeline):
        assert command.help, command.name
        for parameter in command.params:
            if isinstance(parameter, click.Option) and parameter.name not in (
                "ui",
                "faults",
                "engine",
                "out",
                "workers",
            ):
                assert parameter.help, f"{command.name} {parameter.opts}"


def test_links_in_the_documents_lead_somewhere() -> None:
    """Every relative link in README, ARCHITECTURE and docs/ names a file or folder that is there."""
    pages = [
        ROOT / "README.md",
        ROOT / "ARCHITECTURE.md",
        ROOT / "CHANGELOG.md",
        *sorted((ROOT / "docs").rglob("*.md")),
    ]
    missing = []
    for page in pages:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
            if not re.match(r"[a-z]+:", target) and not (page.parent / target).exists():
                missing.append(f"{page.relative_to(ROOT)}: {target}")
    assert missing == []


def test_every_exit_code_is_documented() -> None:
    """Each `EXIT_…` of the command line stands in the table of exit codes."""
    table = (ROOT / "docs" / "reference" / "exit-codes.md").read_text("utf-8")
    for name, code in vars(cli).items():
        if name.startswith("EXIT_"):
            assert re.search(rf"^\| (\d+, )?{code}\b", table, re.MULTILINE), name
