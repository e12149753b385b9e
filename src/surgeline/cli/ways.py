"""How the target is reached, agreed beforehand: options and plan go in, a way that is allowed and has room comes out.

The command line's words are curl's. Whether there are descriptors and ports enough is worked out before anything is
sent.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import click

from surgeline import environment, preflight
from surgeline.cli import EXIT_USAGE, Refused, style, withheld
from surgeline.engines.native import OWN_DESCRIPTORS, most_in_flight
from surgeline.plan import evaluate
from surgeline.plan.model import Connection, Plan, Tls
from surgeline.preflight import Way
from surgeline.workload import Workload

if TYPE_CHECKING:
    from surgeline.cli.order import Wanted

Command = TypeVar("Command", bound=Callable[..., Any])

_FILES = (("ca", "cacert"), ("certificate", "cert"), ("key", "key"))
"""Keys of a plan's `tls`, and curl's words for them."""


def options(command: Command) -> Command:
    """The options of curl that say how the target is reached."""
    for option in (
        click.option("-6", "--ipv6", "ip", flag_value=6, type=int, help="Only IPv6 addresses of the target's name."),
        click.option("-4", "--ipv4", "ip", flag_value=4, type=int, help="Only IPv4 addresses of the target's name."),
        click.option("--unix-socket", metavar="PATH", help="The target listens on this Unix socket, as in curl."),
        click.option("-x", "--proxy", metavar="URL", help="HTTP proxy to go through; none is taken from elsewhere."),
        click.option("--key", metavar="FILE", help="Key of --cert (PEM), where it is not in the same file."),
        click.option("-E", "--cert", metavar="FILE", help="Client certificate (PEM) to show to the server."),
        click.option("--cacert", metavar="FILE", help="Certificates to trust (PEM), in place of the system's."),
    ):
        command = option(command)
    return command


def of_plans_only(wanted: "Wanted") -> None:
    """Refuses what a locustfile has to say in its own client."""
    for name in ("cacert", "cert", "key", "proxy", "unix_socket", "ip", "timeout", "insecure"):
        if getattr(wanted, name) not in (None, False):
            option = f"--ipv{wanted.ip}" if name == "ip" else f"--{name.replace('_', '-')}"
            raise Refused(f"{option} goes with plans and URLs; in a locustfile, set it in its client", EXIT_USAGE)


def changes(wanted: "Wanted") -> dict[str, dict[str, Any]]:
    """What the options change in a plan's `connection` and `tls`."""
    connection: dict[str, Any] = {}
    if wanted.proxy is not None:
        named = wanted.proxy if "://" in wanted.proxy else f"http://{wanted.proxy}"
        connection["proxy"] = withheld.reference(withheld.PROXY) if withheld.proxy(wanted.proxy) else named
    if wanted.unix_socket is not None:
        connection["unix_socket"] = str(Path(wanted.unix_socket).absolute())
    if wanted.ip is not None:
        connection["ip"] = wanted.ip
    tls = {key: Path(given).name for key, word in _FILES if (given := getattr(wanted, word)) is not None}
    return {key: part for key, part in (("connection", connection), ("tls", tls)) if part}


def named_files(wanted: "Wanted") -> dict[str, Path]:
    """The files that options name, by key of `tls`: the user's own words, which may lead anywhere."""
    return {key: Path(given) for key, word in _FILES if (given := getattr(wanted, word)) is not None}


@dataclass(frozen=True, slots=True)
class Agreed:
    """A way that may be gone: the target's addresses, why load is allowed there, and how they are reached."""

    addresses: tuple[str, ...]
    authorized: str
    way: Way


def agree(target: str, way: Way, wanted: "Wanted") -> Agreed:
    """Resolves target and proxy, and asks where one of them is neither loopback nor private."""
    if way.connection.unix_socket is not None:
        return Agreed((), "own socket", way)
    if way.proxy is None:
        addresses = preflight.resolve(target, way.connection.ip)
        return Agreed(addresses, _consent(urlsplit(target).hostname or target, addresses, wanted), way)
    proxies = preflight.resolve(f"http://{way.proxy.shown}", way.connection.ip)
    way = replace(way, proxy_addresses=proxies)
    reasons = {_consent(f"the proxy {way.proxy.shown}" if way.proxy else "", proxies, wanted)}
    try:
        addresses = preflight.resolve(target)
    except preflight.Unreachable:
        # Only the proxy knows where that is, so nobody here can tell whether it is the user's own.
        addresses = ()
    reasons.add(_consent(urlsplit(target).hostname or target, addresses, wanted))
    return Agreed(addresses, next((why for why in ("asked", "--authorized") if why in reasons), "own address"), way)


def _consent(host: str, addresses: Sequence[str], wanted: "Wanted") -> str:
    """Why load may be put there. Asks where it is not one's own, or nobody can tell."""
    strange = preflight.foreign(addresses)
    if addresses and not strange:
        return "own address"
    if wanted.authorized:
        return "--authorized"
    shown = f"{host} ({strange[0]})" if strange else f"{host}, whose address only the proxy knows,"
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        said = "is neither on this machine nor in a private network" if strange else "may be anybody's"
        raise Refused(
            f"{shown} {said}. Load on it needs its owner's consent: if you have that, add --authorized", EXIT_USAGE
        )
    said = "is a public address" if strange else "may be anybody's"
    if not click.confirm(f"{shown} {said}. May you put load on it?", err=True):
        raise Refused(f"No load was put on {host}.", EXIT_USAGE)
    return "asked"


def way_of(plan: Plan | None, wanted: "Wanted", secrets: Mapping[str, str], files: Mapping[str, str]) -> Way:
    """The way that a plan names, not resolved yet; that of the options alone where there is no plan yet."""
    if plan is None:
        changed = changes(wanted)
        parts = (Connection.model_validate(changed.get("connection", {})), Tls.model_validate(changed.get("tls", {})))
        return Way(*parts, wanted.insecure, _proxy_of_options(wanted), (), files)
    try:
        proxy = evaluate.proxy_of(plan, evaluate.constants(plan, secrets))
    except ValueError as error:
        raise Refused(f"{error}", EXIT_USAGE) from error
    return Way(plan.connection, plan.tls, plan.insecure, proxy, (), files)


def _proxy_of_options(wanted: "Wanted") -> evaluate.Proxy | None:
    if wanted.proxy is None:
        return None
    try:
        return evaluate.proxy_at(wanted.proxy, "--proxy")
    except ValueError as error:
        raise Refused(str(error), EXIT_USAGE) from error


def words(way: Way) -> str:
    """The way in words, with what is not as usual about its connections; empty for the straight one."""
    connection, said = way.connection, []
    if way.proxy is not None:
        said.append(f"through the proxy {way.proxy.shown}")
    if connection.unix_socket is not None:
        said.append(f"over the Unix socket {connection.unix_socket}")
    if connection.sources:
        count = len(connection.sources)
        said.append(f"from {connection.sources[0]}" if count == 1 else f"from {count} source addresses")
    if connection.ip is not None:
        said.append(f"IPv{connection.ip} only")
    if connection.keep_alive is not True:
        most = int(connection.keep_alive) or 1
        said.append("a new connection for each request" if most == 1 else f"a new connection after {most} requests")
    if connection.share is not None:
        said.append("each user its own connection" if connection.share == "user" else "one pool of connections")
    return ", ".join(said)


# --- Is there room? --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Room:
    """What this process may hold: open files, and ports for each pair of a source and an address.

    `ports` is None where the system does not say, or where none are needed. `held_s` is how long a port may stay taken
    after its connection has ended (TIME_WAIT).
    """

    descriptors: int
    ports: int | None
    pairs: int = 1
    held_s: float = 60.0

    @property
    def connections(self) -> int:
        """That may be open at once, by descriptors alone."""
        return max(self.descriptors - OWN_DESCRIPTORS, 1)


def room_for(way: Way, addresses: Sequence[str]) -> Room:
    """What there is for connections on this way; raises the limit of descriptors as far as it goes."""
    descriptors = environment.raise_descriptor_limit()
    if way.connection.unix_socket is not None:
        return Room(descriptors, None)
    ends = addresses if way.proxy is None else way.proxy_addresses
    sources = way.connection.sources
    pairs = sum(1 for end in ends for source in sources if (":" in end) == (":" in source)) if sources else len(ends)
    return Room(descriptors, environment.ephemeral_ports(), max(pairs, 1), environment.time_wait_s(ends))


def shortage(connections: int, room: Room) -> str | None:
    """Why so many connections at once are too many here, as a sentence with its arithmetic; None where they are not."""
    if connections > room.connections:
        return (
            f"{connections:,} connections at once are more than this process may hold: of {room.descriptors:,} open "
            f"files, {OWN_DESCRIPTORS} are for itself, which leaves {room.connections:,}. Raise the hard limit "
            "(ulimit -Hn), ask for less, or have users share connections (`connection: {share: pool}`) with "
            "--max-in-flight."
        )
    if room.ports is not None and connections > room.ports * room.pairs:
        wanted = -(-connections // room.ports)
        return (
            f"{connections:,} connections at once need more ports than there are: {room.ports:,} for each pair of a "
            f"source and an address (net.ipv4.ip_local_port_range), times {room.pairs} {_pairs(room.pairs)}. Add "
            f"source addresses, as in `connection: {{source_addresses: 127.0.0.2..127.0.0.{min(wanted + 1, 254)}}}`."
        )
    return None


def _pairs(count: int) -> str:
    return "pair" if count == 1 else "pairs"


def bounded(plan: Plan, load: Workload, room: Room, wanted: "Wanted") -> int:
    """How many requests may be in flight at once. Says what bounds them; refuses users for whom there is no room."""
    most = most_in_flight(room.descriptors)
    if room.ports is not None:
        most = min(most, room.ports * room.pairs)
    if load.arrives or wanted.searching:
        _warn_of_short_connections(plan, load, room)
        if wanted.max_in_flight is None:
            if most < min(most_in_flight(sys.maxsize), room.connections):
                style.warn(f"No more than {most:,} requests may be in flight: {_ports_words(room)}.")
            return most
        if (short := shortage(wanted.max_in_flight, room)) is not None:
            style.warn(f"--max-in-flight is taken as {_held(room):,}: {short}")
        return min(wanted.max_in_flight, _held(room))
    users = round(max(max(stage.start, stage.end) for stage in load.stages))
    # A pool has as many connections as there are requests in flight; users who keep theirs have one each.
    needed = min(users, wanted.max_in_flight or users) if plan.connection.share == "pool" else users
    short = shortage(needed, room)
    if short is not None and not wanted.anyway:
        raise Refused(f"{short} To start all the same, add --anyway: what finds no room is not sent.", EXIT_USAGE)
    if short is not None:
        style.warn(short)
    return wanted.max_in_flight or max(most, users)


def _held(room: Room) -> int:
    return min(room.connections, room.ports * room.pairs if room.ports is not None else room.connections)


def _ports_words(room: Room) -> str:
    return f"{room.ports:,} ports (net.ipv4.ip_local_port_range) times {room.pairs} {_pairs(room.pairs)} of addresses"


def _warn_of_short_connections(plan: Plan, load: Workload, room: Room) -> None:
    """Ports stay taken for a while after their connection: at a high rate of new ones they run out."""
    most = plan.connection.keep_alive
    if most is True or room.ports is None:
        return
    per_s = max(max(stage.start, stage.end) for stage in load.stages) / max(int(most), 1)
    if per_s * room.held_s > room.ports * room.pairs:
        style.warn(
            f"Up to {per_s:,.0f} connections begin each second, and where this side closes first each keeps its port "
            f"for {room.held_s:g} s: that may need more than {_ports_words(room)}. Requests without a port are not "
            "sent (client_ports)."
        )
