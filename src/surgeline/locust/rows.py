"""Which row of test data an iteration takes, as the engine in Rust decides it.

Processes share the rows without asking each other: process i of n takes the rows i, i + n, i + 2n …, and a row of a
user's own is the row of its number. Nothing is read here; the rows came with the plan.
"""

from collections.abc import Sequence
from random import Random
from typing import Any

from surgeline.plan.evaluate import cells


class UsedUp(Exception):
    """There is no row left; `args[0]` is the data's name."""


class Rows:
    """The rows of every feed of a plan, and how many of each this process took."""

    def __init__(self, feeds: Sequence[dict[str, Any]]) -> None:
        self._feeds = {feed["name"]: feed for feed in feeds}
        self._taken = dict.fromkeys(self._feeds, 0)

    def take(self, names: Sequence[str], share: tuple[int, int], user: int | None, draws: Random) -> dict[str, str]:
        """The variables that one iteration has from the named feeds; `user` None where each iteration is one.

        Raises UsedUp.
        """
        found: dict[str, str] = {}
        for name in names:
            feed = self._feeds[name]
            found |= cells(name, feed["columns"], feed["rows"][self._row(name, feed, share, user, draws)])
        return found

    def _row(self, name: str, feed: dict[str, Any], share: tuple[int, int], user: int | None, draws: Random) -> int:
        index, of = share
        count = len(feed["rows"])
        if feed["order"] == "random":
            return draws.randrange(count)
        if feed["order"] == "unique" and user is not None:
            number = user
        else:
            number = self._taken[name] * of + index
            self._taken[name] += 1
        if number >= count and not feed["wraps"]:
            raise UsedUp(name)
        return number % count
