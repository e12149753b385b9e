"""The workflow that people copy is YAML, and every command and option in it exists."""

import re
import shlex
from pathlib import Path

import click
from ruamel.yaml import YAML

from surgeline import cli

ROOT = Path(__file__).resolve().parent.parent
WORKFLOW = ROOT / "examples" / "ci" / "performance-gate.yml"


def _commands(text: str) -> list[list[str]]:
    joined = text.replace("\\\n", " ")
    return [shlex.split(line.split(">")[0]) for line in joined.splitlines() if line.strip().startswith("surgeline ")]


def _check(words: list[str]) -> None:
    group: click.Command = cli.surgeline
    context = click.Context(group)
    path, rest = "surgeline", words[1:]
    while isinstance(group, click.Group):
        found = group.get_command(context, rest[0])
        assert found is not None, f"{path} {rest[0]}"
        group, path, rest = found, f"{path} {rest[0]}", rest[1:]
    known = {name for parameter in group.params for name in (*parameter.opts, *parameter.secondary_opts)}
    for word in rest:
        if re.match(r"--[a-z]", word):
            assert word.split("=")[0] in known, f"{path} {word}"


def test_the_workflow_is_yaml_and_its_commands_exist():
    """Each step's script; at least the series and the gate."""
    steps = YAML(typ="safe").load(WORKFLOW.read_text())["jobs"]["gate"]["steps"]
    commands = [words for step in steps for words in _commands(step.get("run", ""))]
    assert [words[1] for words in commands] == ["ab", "gate"]
    for words in commands:
        _check(words)


def test_commands_of_the_pages_about_comparing_exist():
    """What the how-to pages tell to type can be typed."""
    for name in ("keep-a-baseline-and-compare", "use-it-in-ci", "import-results"):
        text = (ROOT / "docs" / "how-to" / f"{name}.md").read_text("utf-8")
        commands = _commands("\n".join(line[4:] for line in text.splitlines() if line.startswith("    ")))
        assert commands, name
        for words in commands:
            _check(words)
