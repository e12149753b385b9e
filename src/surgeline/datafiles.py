"""The files that a plan's data comes from and those that its requests send, read from its own folder only.

A plan may come from a stranger: a name in it must not make this program read, and send to a target, what lies outside
of the folder that the plan was taken from. Links are followed first and judged by where they lead.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from surgeline.plan.check import place_of_file
from surgeline.plan.feed import MOST_BYTES, Feed, feed_faults, read_feed, with_hashes
from surgeline.plan.model import Plan
from surgeline.plan.problem import Fault, PlanError, path_text
from surgeline.plan.upload import SentFile, with_sent_files

MOST_PEM_BYTES = 4 << 20
"""A file of all certificates that systems trust has a twentieth of this."""


def attach(plan: Plan, folder: Path | None, where: str) -> tuple[Plan, Mapping[str, Feed]]:
    """The plan with the hashes of its data, and the data; `folder` is None where the plan came out of no file.

    Raises PlanError where a file is not there, leads out of the folder, cannot be read as rows, or lacks a column.
    """
    feeds: dict[str, Feed] = {}
    faults: list[Fault] = []
    for name, part in plan.data.items():
        found = _read(part.file, folder)
        if isinstance(found, str):
            faults.append(Fault(("data", name, "file"), f"data.{name}.file: {found}"))
        else:
            feeds[name] = read_feed(found, part.file)
    faults = faults or feed_faults(plan, feeds)
    if faults:
        raise PlanError.of_faults(where, faults)
    return with_hashes(plan, feeds), feeds


_LOCKED = re.compile(r"-----BEGIN ENCRYPTED PRIVATE KEY-----|^Proc-Type: *4, *ENCRYPTED", re.MULTILINE)
"""A private key that needs a passphrase: RFC 7468 section 11, and the older form of RFC 1421."""


def tls_files(plan: Plan, folder: Path | None, where: str, named: Mapping[str, Path]) -> Mapping[str, str]:
    """The texts of the files that the plan's `tls` names; `named` has those that the user named outside of the plan.

    Raises PlanError where one is not there, leads out of the plan's folder, or is no text.
    """
    texts: dict[str, str] = {}
    faults: list[Fault] = []
    for key, file in plan.tls.named.items():
        if file is None:
            continue
        path = named.get(key)
        found = _read(file, folder) if path is None else _content(path, str(path))
        if isinstance(found, bytes) and len(found) > MOST_PEM_BYTES:
            found = f"{file} is larger than any file of certificates"
        if isinstance(found, str):
            faults.append(Fault(("tls", key), f"tls.{key}: {found}"))
            continue
        texts[file] = found.decode("ascii", errors="replace")
        if "-----BEGIN " not in texts[file]:
            faults.append(Fault(("tls", key), f"tls.{key}: {file} is not in PEM form (-----BEGIN …)"))
        elif _LOCKED.search(texts[file]):
            said = f"{file} is locked by a passphrase, and none is asked for; write a copy without: "
            faults.append(Fault(("tls", key), f"tls.{key}: {said}openssl pkey -in {file} -out FILE"))
    if faults:
        raise PlanError.of_faults(where, faults)
    return texts


def attach_sent(plan: Plan, folder: Path | None, where: str) -> tuple[Plan, Mapping[str, SentFile]]:
    """The plan with the hashes of the files that it sends, and where they are; each is read once, in pieces.

    Raises PlanError where a file is not there, leads out of the folder, cannot be read, or is another than the plan was
    run with.
    """
    found: dict[str, SentFile] = {}
    faults: list[Fault] = []
    for name, held_to in plan.sent_files.items():
        sent = _seen(name, folder)
        if isinstance(sent, SentFile) and held_to not in (None, sent.sha256):
            sent = f"{name} is not the file that the plan was run with"
        if isinstance(sent, SentFile):
            found[name] = sent
        else:
            loc = place_of_file(plan, name)
            faults.append(Fault(loc, f"{path_text(loc)}: {sent}"))
    if faults:
        raise PlanError.of_faults(where, faults)
    return with_sent_files(plan, found), found


def _seen(file: str, folder: Path | None) -> SentFile | str:
    """The file as it is now, or why it cannot be sent, as a clause."""
    path = _found(file, folder)
    if isinstance(path, str):
        return path
    try:
        with open(path, "rb") as opened:
            sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
            return SentFile(str(path), opened.tell(), sha256)
    except OSError as error:
        return f"{file} cannot be read: {error.strerror or error}"


def _read(file: str, folder: Path | None) -> bytes | str:
    """The file's bytes, or why there are none, as a clause."""
    path = _found(file, folder)
    return path if isinstance(path, str) else _content(path, file)


def _found(file: str, folder: Path | None) -> Path | str:
    """Where the file is, or why it must not be read, as a clause."""
    if folder is None:
        return f"there is no folder to look for {file} in; write the plan to a file beside it"
    try:
        home = folder.resolve()
        path = (home / file).resolve()
        if not path.is_relative_to(home):
            return f"{file} leads out of the plan's folder; put the file itself into it"
        return path if path.is_file() else f"there is no file {file} beside the plan"
    except (OSError, ValueError, RuntimeError) as error:
        return f"{file} cannot be read: {getattr(error, 'strerror', None) or error}"


def _content(path: Path, shown: str) -> bytes | str:
    try:
        with open(path, "rb") as opened:
            return opened.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        return f"{shown} cannot be read: {getattr(error, 'strerror', None) or error}"
