"""Bodies made of files: which texts and files they consist of, in which order.

What comes in is a step, what leaves are its body's parts: texts with templates, and files by name. What is in the files
is the caller's affair; engines read them while they send. The boundary of a multipart body is made from the whole of
it, the hashes of its files included: the same plan sends the same bytes, and nothing that is known beforehand contains
it (it would have to contain its own hash).
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from surgeline.plan.model import TEMPLATE, BodyFile, FormPart, Plan, Scenario, Step

_TYPES = {
    **{"txt": "text/plain", "csv": "text/csv", "html": "text/html", "xml": "application/xml", "md": "text/markdown"},
    **{"json": "application/json", "pdf": "application/pdf", "zip": "application/zip", "gz": "application/gzip"},
    **{"jpg": "image/jpeg", "jpeg": "image/jpeg", "png": "image/png", "gif": "image/gif", "webp": "image/webp"},
    **{"svg": "image/svg+xml", "avif": "image/avif", "mp3": "audio/mpeg", "wav": "audio/wav", "mp4": "video/mp4"},
    **{"webm": "video/webm", "js": "text/javascript", "css": "text/css", "tar": "application/x-tar"},
}
"""Content types by a file's ending: the common ones of IANA's registry, so that no system's own list decides."""


@dataclass(frozen=True, slots=True)
class SentFile:
    """A file whose bytes are sent: where it is, how long, and what it was when the run was prepared."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class TextPiece:
    """A template; `place` says how values are written into it."""

    text: str
    place: Literal["plain", "json", "form"] = "plain"


@dataclass(frozen=True, slots=True)
class FilePiece:
    """The bytes of a file, by its name in the plan."""

    file: str


Piece = TextPiece | FilePiece


def pieces(step: Step) -> tuple[Piece, ...] | None:
    """What a body is made of, one after the other; None where the step's body is not made of files."""
    if step.body_file is not None:
        return (FilePiece(step.body_file.file),)
    return tuple(_multipart(step.multipart, boundary(step))) if step.multipart is not None else None


def content_type(step: Step) -> str | None:
    """The content type of such a body, unless the step's headers say otherwise; None where there is none."""
    if step.multipart is not None:
        return f"multipart/form-data; boundary={boundary(step)}"
    return _type_of(step.body_file.file) if step.body_file is not None else None


def boundary(step: Step) -> str:
    """What stands between the parts of a multipart body."""
    whole = step.model_dump(mode="json", by_alias=True, include={"multipart"})
    text = json.dumps(whole, sort_keys=True, ensure_ascii=False)
    return "surgeline-" + hashlib.sha256(text.encode()).hexdigest()[:32]


def _multipart(fields: Mapping[str, tuple[FormPart, ...]], between: str) -> Iterator[Piece]:
    """RFC 7578, names written as browsers do."""
    for name, parts in fields.items():
        for part in parts:
            head = f'--{between}\r\ncontent-disposition: form-data; name="{_quoted(name)}"'
            kind = part.type
            if part.file is not None:
                yield TextPiece(head)
                own = part.filename or part.file.rpartition("/")[2]
                yield TextPiece(f'; filename="{_quoted(own)}"', "form")
                head, kind = "", kind or _type_of(part.file)
            yield TextPiece(head + (f"\r\ncontent-type: {kind}" if kind else "") + "\r\n\r\n")
            if part.file is not None:
                yield FilePiece(part.file)
            else:
                yield TextPiece(part.text or "", "json" if kind is not None and "json" in kind.lower() else "plain")
            yield TextPiece("\r\n")
    yield TextPiece(f"--{between}--\r\n")


def _quoted(text: str) -> str:
    """As browsers write a name between quotes (WHATWG HTML, multipart/form-data); templates are left to be filled."""
    kept, at = [], 0
    for found in TEMPLATE.finditer(text):
        kept += [_escaped(text[at : found.start()]), found[0]]
        at = found.end()
    return "".join([*kept, _escaped(text[at:])])


def _escaped(text: str) -> str:
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def _type_of(file: str) -> str:
    return _TYPES.get(file.rpartition(".")[2].lower(), "application/octet-stream")


def with_sent_files(plan: Plan, files: Mapping[str, SentFile]) -> Plan:
    """The plan with the hash of each file that it sends, so that another file makes it another plan."""

    def held(step: Step) -> Step:
        update: dict[str, object] = {}
        if step.body_file is not None:
            update["body_file"] = BodyFile(file=step.body_file.file, sha256=files[step.body_file.file].sha256)
        if step.multipart is not None:
            update["multipart"] = {
                name: tuple(
                    part if part.file is None else part.model_copy(update={"sha256": files[part.file].sha256})
                    for part in parts
                )
                for name, parts in step.multipart.items()
            }
        return step.model_copy(update=update) if update else step

    def flow(scenario: Scenario) -> Scenario:
        return scenario.model_copy(
            update={"once": tuple(map(held, scenario.once)), "steps": tuple(map(held, scenario.steps))}
        )

    if not plan.sent_files:
        return plan
    return plan.model_copy(update={"scenarios": {name: flow(part) for name, part in plan.scenarios.items()}})
