"""How the command line speaks on standard error: labelled lines, notes, warnings; colour only where it is wanted."""

import contextlib
import os
import shlex
import shutil
import sys
import textwrap
from pathlib import Path
from typing import TextIO

import click

_LABEL_WIDTH = 8


def takes_colour(stream: TextIO) -> bool:
    """Whether the stream shows colour: FORCE_COLOR wins, then NO_COLOR and TERM=dumb, then being a terminal."""
    if os.environ.get("FORCE_COLOR"):
        return True
    if os.environ.get("NO_COLOR") or os.environ.get("SURGELINE_NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return stream.isatty()


_ascii_only = False


def ascii_only(wanted: bool) -> None:
    """From here on nothing but ASCII is printed, whatever the streams could show."""
    global _ascii_only  # one process prints in one way
    _ascii_only = wanted


def takes_unicode(stream: TextIO) -> bool:
    """Whether the stream's encoding has the signs we use, and they are wanted."""
    return not _ascii_only and (getattr(stream, "encoding", None) or "ascii").lower().replace("-", "").startswith("utf")


def say(label: str, text: str) -> None:
    """A labelled line; a long one goes on below its beginning."""
    _err(f"{click.style(label.ljust(_LABEL_WIDTH), bold=True)} {_wrapped(text)}")


def note(text: str) -> None:
    """Something worth knowing that changes nothing."""
    _err(f"{' ' * _LABEL_WIDTH} {_wrapped(text)}")


def _wrapped(text: str) -> str:
    """The text in lines of the terminal's width, indented behind the label; in one line where there is no terminal."""
    if not sys.stderr.isatty():
        return text
    width = max(shutil.get_terminal_size().columns - _LABEL_WIDTH - 2, 30)
    return textwrap.fill(
        text, width, break_long_words=False, break_on_hyphens=False, subsequent_indent=" " * (_LABEL_WIDTH + 1)
    )


def warn(text: str) -> None:
    """Something that may change what the numbers mean."""
    sign = "!" if not takes_colour(sys.stderr) else click.style("!", fg="yellow", bold=True)
    _err(f"{sign} {text}")


def _err(text: str) -> None:
    if not takes_unicode(sys.stderr):
        for sign, plain in (("→", "->"), ("…", "..."), ("–", "-"), ("×", "x"), ("·", "|"), ("µ", "u"), ("✗", "x")):
            text = text.replace(sign, plain)
        text = text.encode("ascii", "replace").decode()
    # Whoever reads standard error may have gone, as `head` does; a run goes on without being watched.
    with contextlib.suppress(OSError):
        click.echo(text, err=True, color=takes_colour(sys.stderr))


def places(path: Path, plain: bool = False) -> str:
    """Where a run's files are, and what to do next: the last lines of every run."""
    from surgeline.store.rundir import DEFAULT_ROOT

    shown = shown_path(path)
    root = shown_path(path.parent)
    out = "" if root == DEFAULT_ROOT else f" --out {shlex.quote(str(root))}"
    first, then = f"surgeline baseline save main{out}", f"surgeline compare main last{out}"
    lines = [
        ("Page", f"{shown / 'summary.md'}"),
        ("Report", f"{shown / 'report.html'}"),
        (
            "Raw data",
            f"{shown / 'requests.csv'}" if (path / "requests.csv").exists() else f"surgeline export {path.name}",
        ),
        ("Next", f"{first}      keeps this run to compare with"),
        ("", f"{then:<{len(first)}}      after your next change"),
    ]
    return "\n".join(f" {label:<{_LABEL_WIDTH + 1}} {text}".rstrip() for label, text in lines)


def shown_path(path: Path) -> Path:
    """The path as short as it is unambiguous: relative where it lies below the working directory."""
    try:
        return path.resolve().relative_to(Path.cwd())
    except ValueError:
        return path
