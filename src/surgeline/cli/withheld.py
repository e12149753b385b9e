"""What a command line says and no file may keep: passwords of proxies, and the values of headers that prove who sends.

Each is put where the environment's values are, under a name of ours, and a plan then has the name. So no run, page or
baseline holds it, and two runs with different tokens are runs of one plan.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

PROXY = "SURGELINE_PROXY"
"""The name under which a proxy with a password, given as an option, stands among the environment's values."""
HIDDEN = "***"

_PASSWORD = re.compile(r"(^|=|//)[^/@=\s]+:[^/@\s]+@")
_PROVES = re.compile(
    r"(?i)auth|cookie|token|secret|passw|credential|session|signature|jwt|(?:api|access|private)[-_]?key"
)
"""Names of headers whose values are secrets, `Authorization` and `Cookie` among them."""
_HEADER = re.compile(r"(?s)(?P<option>(?:--header=|-H=?)?)(?P<name>[^:=\s]+)\s*:.*")


def reference(name: str) -> str:
    """How a plan names a value of the environment."""
    return f"{{{{env.{name}}}}}"


def proxy(given: str | None) -> dict[str, str]:
    """The proxy of an option as the environment's value, where it has a password; else nothing."""
    return {PROXY: given} if given is not None and "@" in given else {}


def headers(given: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Headers as a plan may keep them, and what has to be added to the environment's values for that.

    A value that refers to something already is the user's own way of keeping it out, and stays as it is.
    """
    kept, added = dict(given), {}
    for name, value in given.items():
        if _PROVES.search(name) and value and "{{" not in value:
            own = "SURGELINE_" + re.sub(r"\W", "_", name).upper()
            kept[name], added[own] = reference(own), value
    return kept, added


def command(arguments: Sequence[str]) -> tuple[str, ...]:
    """The command line as it may be kept."""
    return tuple(_words(arguments))


def _words(arguments: Sequence[str]) -> Iterator[str]:
    before = ""
    for word in arguments:
        found = _HEADER.fullmatch(word)
        if found and (found["option"] or before in ("-H", "--header")) and _PROVES.search(found["name"]):
            secret = "{{" not in word
            yield f"{found['option']}{found['name']}: {HIDDEN}" if secret else word
        else:
            yield _PASSWORD.sub(rf"\1{HIDDEN}@", word)
        before = word
