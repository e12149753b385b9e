"""What lives inside Locust's own process: the only room that imports Locust.

`plugin` listens to what Locust's users do and writes each request into the run's journal; `lane` hosts a plan in stock
Locust users; `launch` starts stock Locust with either; `door` is `surgeline locust`. `HttpUser` and `FastHttpUser`
stand in for Locust's own, on the native engine: `plain` and `fast` are their surfaces, `native` is the engine's part,
`report` tells of their requests, `swap` puts them where locustfiles import them from.

Importing this package imports no Locust: that patches a process, and is left to processes that were started for it. The
two classes import it when they are asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from surgeline.locust.fast import FastHttpUser
    from surgeline.locust.plain import HttpUser

__all__ = ["FastHttpUser", "HttpUser"]


def __getattr__(name: str) -> Any:
    """The two user classes, imported with Locust when they are asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import locust  # noqa: F401  # first of all: it patches the process

    if name == "FastHttpUser":
        from surgeline.locust.fast import FastHttpUser

        return FastHttpUser
    from surgeline.locust.plain import HttpUser

    return HttpUser
