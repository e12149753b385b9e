"""Whether somebody has put code of theirs between a user's client and its requests.

The native client sends most requests without going through the methods of the stock clients. Where a class inherits
from one of its sessions and has such a method, or where one of the stock classes was changed (as instrumentation does),
the methods have to be called.
"""

from collections.abc import Container


def is_unchanged(kind: type, methods: frozenset[str], files: Container[str]) -> bool:
    """Whether the methods of these names are written in these files: those of the class and of all it inherits from.

    What is not written in Python is taken for changed, but for what a compiled class has of its own.
    """
    for base in kind.__mro__:
        if base.__module__ == "surgeline._engine":
            continue
        held = vars(base)
        for name in methods & held.keys():
            code = getattr(held[name], "__code__", None)
            if code is None or code.co_filename not in files:
                return False
    return True
