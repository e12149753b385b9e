"""The scripts that a master sends its workers, as files of this machine.

Stock Locust writes each to one well-known name in the folder for temporary files. Workers that come up together then
read a script while another one writes it, and workers of two masters run each other's.
"""

import hashlib
import os
import stat
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any


def keep(sources: Sequence[Any]) -> list[str]:
    """Where the scripts are now, whole; `sources` are Locust's: `{"filename", "contents"}`, or an address or a path.

    Scripts that came together lie together, since one may import another; those of one name, which lay in different
    folders, do not. Their folder is named for what is in it, and so is the same for every worker of one master: Locust
    counts exceptions by their traceback, which names the file. It stays, like that of stock Locust.
    """
    came = [source for source in sources if not isinstance(source, str)]
    digest = hashlib.sha256(repr(came).encode()).hexdigest()
    place = _own(Path(tempfile.gettempdir()) / f"surgeline-{os.getuid()}" / digest[:16])
    kept: list[str] = []
    for source in sources:
        if isinstance(source, str):
            kept.append(source)
            continue
        path = place / Path(source["filename"]).name
        if str(path) in kept:
            path = _own(place / str(len(kept))) / path.name
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as file:
            file.write(source["contents"])
        os.replace(file.name, path)
        kept.append(str(path))
    return kept


def _own(wanted: Path) -> Path:
    """A folder that nobody else writes into: the wanted one, or another where somebody else has taken its name."""
    for path in (wanted.parent, wanted):
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
            return Path(tempfile.mkdtemp(prefix="surgeline-"))
    return wanted


def install() -> None:
    """Has Locust keep them so. In a process that is no worker this changes nothing."""
    import locust.argument_parser

    vars(locust.argument_parser)["parse_locustfiles_from_master"] = keep
