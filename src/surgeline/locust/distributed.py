"""One run on several machines: what a stock Locust master and its workers tell each other beside Locust's own messages.

A worker that was forked by its master writes into the run's journal itself. Any other one *joins*: it says hello, finds
out how far its clock is from the master's, is told of the run, and records into a `Spool` of its own. What it counts
rides in Locust's stats messages and is appended, frame by frame, to the master's journal, where windows merge exactly;
its rows are fetched when the run has ended, some parts at a time, each whole frames. Files whose bytes a plan sends go
the other way before the run begins.

    worker                                    master
    hello    who I am, which versions   →
                                        ←     welcome   or why not
    clock    my time                    →
                                        ←     clock     my time, when it came      (several times, then each second)
    ready    my clock's offset          →
                                        ←     run       its id, time zero, plan
    file     from byte n on             →
                                        ←     piece     …                           (where the plan sends files)
    have     all of them, or why not    →
                                        ←     share     its part of the plan
    stats    + frames                   →               appended to the journal
                                        ←     end       stop the users
    last     + the last frames          →
                                        ←     fetch     from byte n on
    part     …                          →               appended to the journal
                                        ←     over      forget it

Neither side believes the other: frames are bounded and decoded before they are kept. Nothing here is secret, or keeps
anybody out: Locust's port has neither passwords nor encryption.
"""

import importlib.util
import json
import logging
import os
import shutil
import socket
import tempfile
import time
import zlib
from collections.abc import Callable, Container, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gevent
import gevent.event
import locust
import locust.exception
import locust.runners
import numpy as np
from locust.runners import STATE_MISSING, STATE_RUNNING, STATE_SPAWNING, MasterRunner, WorkerRunner

from surgeline import __version__
from surgeline.locust.cargo import Cargo, Unfit, manifest, piece_of, sha256_of
from surgeline.locust.clocks import Clock, Course, Offset
from surgeline.locust.orders import Orders, Relayed
from surgeline.locust.spool import Part, Spool, rows_in
from surgeline.locust.timeline import rest_of
from surgeline.samples import COLUMNS, Frame, SampleError, decode_frames, decode_table, encode_object
from surgeline.store.errors import StoreError
from surgeline.store.journal import Segment

if TYPE_CHECKING:
    from surgeline.locust.plugin import Plugin

log = logging.getLogger("surgeline")

PROTOCOL = 1
"""1: first version."""
HELLO, WELCOME, CLOCK, READY = "surgeline_hello", "surgeline_welcome", "surgeline_clock", "surgeline_ready"
RUN, END, LAST, OVER = "surgeline_run", "surgeline_end", "surgeline_last", "surgeline_over"
FETCH, PART = "surgeline_fetch", "surgeline_part"
ORDER, SHARE = "surgeline_order", "surgeline_share"
FILE, PIECE, HAVE = "surgeline_file", "surgeline_piece", "surgeline_have"
RIDES = "surgeline"
"""The key under which frames ride in a stats message."""
JOIN = "SURGELINE_LOCUST_JOIN"
"""Environment variable with the file descriptor that `surgeline worker` reads; not there in other processes."""

FIRST_TRIPS = 10
"""Round trips before a worker is ready: the quickest of ten says about what the quickest of a hundred does."""
TRIP_S = 0.02
HELLO_AGAIN_S = 2.0
READY_S = 3.0
"""How long the beginning of a test waits for workers that have said hello and not yet that they are ready."""
SPEECHLESS_S = 2.0
"""A worker that Locust has had for so long, and that has not said hello, is taken for one without Surgeline."""
SILENCE_S = 6.0
"""A worker that says something each second and has said nothing for so long is gone; twice Locust's own patience."""
DONE_S = 30.0
"""How long workers may take to stop, beyond the stop timeout, and rows to come without any coming."""
PARTS = 4
"""Parts sent at a time: a MiB or so in flight, whatever there is to fetch."""
UNHEARD_S = 10.0
"""A worker of `surgeline worker` that has heard nothing of its master for so long stops sending. Locust's own go on for
a minute, but put load on somebody's target that nobody can stop or see."""
UNREPORTED_NS = 2_500_000_000
"""A worker that was forked here reports each second and at its end; one that has not for so long was lost."""
TAKE_OVER_NS = 2_000_000_000
"""A worker that takes over a share begins so long after it was told of it."""
LEAVE_S = 10.0
"""How long a worker that was asked to end waits for its rows to be fetched."""
PIECE_S = 15.0
"""How long a worker waits for a piece of a file, and a master for a worker that fetches some to ask for the next."""
LONGEST_FRAME = 64 << 20
LOOK_S = 0.5
DEALT_OUT = "all rows of test data are dealt out"


def versions() -> dict[str, str]:
    """What both sides must have in common."""
    return {"surgeline": __version__, "locust": locust.__version__}


def refusal(here: dict[str, Any], there: dict[str, Any], protocol: object, native: bool) -> str | None:
    """Why two processes cannot measure together, as a clause that names both versions; None where they can.

    Surgeline must be the same; of Locust, the first two numbers. `native`: the native engine is to send.
    """
    if protocol != PROTOCOL or there.get("surgeline") != here["surgeline"]:
        return f"the worker has Surgeline {_short(there.get('surgeline'))} and the master {here['surgeline']}"
    if _minor(there.get("locust")) != _minor(here["locust"]):
        return f"the worker has Locust {_short(there.get('locust'))} and the master {here['locust']}"
    if native and not there.get("native"):
        return "the worker has no native engine, which sends this plan"
    return None


def _minor(version: object) -> tuple[str, ...]:
    return tuple(str(version).split(".")[:2])


def _short(text: object, most: int = 80) -> str:
    """Text of the other side, fit for a log and a page."""
    return "".join(letter for letter in str(text)[:most] if letter.isprintable())


def common(*spaces: str) -> str:
    """What processes have in common that run under one system and share these namespaces; "" where it does not say."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return ":".join([boot, *(os.readlink(f"/proc/self/ns/{name}") for name in spaces)])
    except OSError:
        return ""


def machine() -> str:
    """What processes have in common that share clock, files and network."""
    return common("mnt", "net", "time")


# --- The worker's side -----------------------------------------------------------------------------------------------


class Joined:
    """A worker that was not forked by its master, in one process."""

    def __init__(self, plugin: "Plugin", runner: WorkerRunner, report: int | None) -> None:
        self._plugin = plugin
        self._runner = runner
        self._report = report
        """Where `surgeline worker` reads what becomes of this; None in a worker that was started by hand."""
        self._clock = Clock()
        self._welcomed: dict[str, Any] | None = None
        self._heard_back = gevent.event.Event()
        self._ready = False
        self._spool: Spool | None = None
        self._place: Path | None = None
        self._run = ""
        self._answered = 0.0
        """When the master last answered, in s on CLOCK_MONOTONIC."""
        self._unheard = False
        self._one_clock = False
        """Master and worker read the same clock."""
        self._begun: Offset | None = None
        """The clock's offset with which this run's times are told."""
        self._share_of: dict[str, Any] | None = None
        """The run as it was told of, for a worker that waits for a share of its plan."""
        self._orders: Relayed | None = None
        self._cargo = Cargo()
        self._paths: list[str] = []
        """Where the files are whose bytes the plan sends."""
        self._piece: gevent.event.AsyncResult | None = None
        self._done = False
        self._over = gevent.event.Event()
        """Nothing of this run is here any more."""
        self.waiting = True
        """Whether a run may still be told of; requests are held back until then."""
        for name, listener in (
            (WELCOME, self.on_welcome),
            (CLOCK, self.on_clock),
            (RUN, self.on_run),
            (ORDER, self.on_order),
            (SHARE, self.on_share),
            (FETCH, self.on_fetch),
            (PIECE, self.on_piece),
            (OVER, self.on_over),
        ):
            runner.register_message(name, listener)
        runner.register_message(END, self.on_end, concurrent=True)
        runner.register_message("surgeline_begin", lambda **_: None)  # of a plan: who has a share of it listens instead
        events = runner.environment.events
        events.report_to_master.add_listener(self.on_report)  # type: ignore[no-untyped-call]  # Locust's are not annotated
        events.quitting.add_listener(self.on_quitting)  # type: ignore[no-untyped-call]  # as above
        gevent.spawn(self._keep_in_touch)

    def tell(self, state: str, **more: Any) -> None:
        """Says something to `surgeline worker`; nobody listening is fine."""
        if self._report is not None:
            with suppress(OSError):
                os.write(self._report, json.dumps({"state": state, **more}).encode() + b"\n")

    def _send(self, kind: str, **data: Any) -> None:
        with suppress(locust.exception.RPCError):  # Locust says it, and connects again
            self._runner.send_message(kind, data)

    def _keep_in_touch(self) -> None:
        """Hello until it is heard, then the clock: quickly at first, once a second from then on."""
        native = importlib.util.find_spec("surgeline._engine") is not None
        who = {"host": socket.gethostname(), "inherits": False, "native": native}
        hello = {"protocol": PROTOCOL, **versions(), **who}
        while self._welcomed is None:
            self._send(HELLO, **hello)
            self._heard_back.wait(HELLO_AGAIN_S)
        while True:
            self._send(CLOCK, sent_ns=time.monotonic_ns())
            gevent.sleep(1.0 if self._ready else TRIP_S)
            if self._ready:
                self.tell("alive", worker=self._plugin.worker)
            if self._report is not None and time.monotonic() - self._answered > UNHEARD_S:
                log.error("the master has not been heard of for %g s", UNHEARD_S)
                self.tell("unheard", seconds=UNHEARD_S)
                self._unheard = True
                gevent.spawn(self._runner.quit)
                return
            if not self._ready and len(self._clock) >= FIRST_TRIPS:
                self._ready = True
                self._send(READY, **self._offset())

    def readings(self) -> dict[str, float]:
        """How far this clock is from the master's, as health."""
        return {f"clock_{name}": float(value) for name, value in self._offset().items()}

    @property
    def _now(self) -> Offset | None:
        return Offset(0, 0) if self._one_clock else self._clock.offset

    def _offset(self) -> dict[str, int]:
        offset = self._now
        return {} if offset is None else {"offset_ns": offset.offset_ns, "uncertainty_ns": offset.uncertainty_ns}

    def on_welcome(self, msg: Any, **_: Any) -> None:
        """The master answers: come in, or why not."""
        told = msg.data
        if self._welcomed is not None:
            return
        self._welcomed = told
        self._answered = time.monotonic()
        self._heard_back.set()
        self._one_clock = bool(told.get("clock")) and told["clock"] == common("time")
        if told.get("refused"):
            self.waiting = False
            sentence = f"the master refuses this worker: {_short(told['refused'])}"
            log.error("%s; install the same on both", sentence)
            self.tell("refused", why=_short(told["refused"]))
            if self._report is not None:
                gevent.spawn(self._runner.quit)
        else:
            self.tell("joined", worker=self._plugin.worker)

    def on_clock(self, msg: Any, **_: Any) -> None:
        """A round trip has ended."""
        back = time.monotonic_ns()
        self._answered = back / 1e9
        self._clock.add(int(msg.data["sent_ns"]), int(msg.data["at_ns"]), back)

    def on_run(self, msg: Any, **_: Any) -> None:
        """The master has opened a run: from now on it is recorded here."""
        told = msg.data
        offset = self._now
        if offset is None or told["run"] == self._run:
            return
        self._forget()
        self._run, self._begun, self._done = str(told["run"]), offset, False
        self._over.clear()
        anchor = int(told["anchor_ns"]) + offset.offset_ns
        sink: Segment | Spool
        if self._report is None and told["machine"] and told["machine"] == machine() and Path(told["journal"]).is_dir():
            # Nobody's business but this machine's: as a worker that was forked.
            sink = Segment(Path(told["journal"]), f"locust-{self._plugin.worker}", buffer_bytes=8 << 20)
            anchor = int(told["anchor_ns"])
        else:
            self._place = Path(tempfile.mkdtemp(prefix="surgeline-worker-"))
            sink = self._spool = Spool(self._place)
        self.waiting = False
        self._plugin.take_part(told, sink, anchor)
        self.tell("run", run=_short(self._run), worker=self._plugin.worker)
        self._share_of = told
        if told.get("files"):
            gevent.spawn(self._equip, self._run, told["files"])
        elif told["share"] is not None:
            self._host(told)

    def _equip(self, run: str, items: list[dict[str, Any]]) -> None:
        """Sees to the files whose bytes the plan sends, and says that they are here, or why not."""
        why = ""
        try:
            hashed = partial(gevent.get_hub().threadpool.apply, sha256_of)
            self._paths = self._cargo.gather(items, partial(self._ask, run), lambda path: hashed((path,)))
        except Unfit as error:
            why = _short(error, 300)
            log.error("this worker sends nothing: %s", why)
            self.tell("unfit", why=why)
        if run == self._run:
            self._send(HAVE, run=run, why=why)

    def _ask(self, run: str, number: int, at: int) -> bytes:
        self._piece = gevent.event.AsyncResult()
        self._send(FILE, run=run, number=number, at=at)
        try:
            return bytes(self._piece.get(timeout=PIECE_S))
        except gevent.Timeout:
            raise Unfit(f"its master sent nothing for {PIECE_S:g} s") from None

    def on_piece(self, msg: Any, **_: Any) -> None:
        """A piece of a file."""
        if self._piece is not None and msg.data["run"] == self._run:
            self._piece.set(msg.data["data"])

    def on_share(self, msg: Any, **_: Any) -> None:
        """A share of the plan has become free while this worker had none."""
        if self._share_of is not None and msg.data["run"] == self._run and self._orders is None:
            self._host(self._share_of | msg.data)

    def _host(self, told: dict[str, Any]) -> None:
        """Sends a share of the plan that the master told of."""
        if self._paths:
            files = zip(told["compiled"]["files"], self._paths, strict=True)
            here = [file | {"path": path} for file, path in files]
            told = told | {"compiled": told["compiled"] | {"files": here}}
        if told.get("users"):
            from surgeline.locust import lane_users

            self.tell("share", worker=self._plugin.worker, share=int(told["share"]) + 1, of=int(told["workers"]))
            lane_users.take_share(self._plugin, self._runner.environment, self._runner, told)
            return
        from surgeline.locust import lane

        anchor_ns = self._plugin.anchor_ns
        compiled = told["compiled"] | {"clock_monotonic_ns": anchor_ns}
        self._orders = Relayed(
            run_id=self._run,
            journal=Path(),
            monotonic_ns=anchor_ns,
            user_agent=str(told["user_agent"]),
            headers=[(str(name), str(value)) for name, value in told["headers"]],
            plan=told["plan"],
            compiled=compiled,
            workers=int(told["workers"]),
            native=bool(told["native"]),
            file=-1,
            pipe=-1,
            share=int(told["share"]),
        )
        self.tell("share", worker=self._plugin.worker, share=self._orders.share + 1, of=self._orders.workers)
        hosted = lane.install(self._orders, self._plugin)
        hosted.follow(self._runner.environment, self._runner, told["begin_ns"])

    def on_order(self, msg: Any, **_: Any) -> None:
        """What an operator did to the load of a plan."""
        if self._orders is not None:
            self._orders.waiting.append(msg.data["order"])

    def on_report(self, data: dict[str, Any], **_: Any) -> None:
        """Locust is about to send its statistics: what has been counted since the last time goes along.

        All of it, so that a worker that is lost has told Locust and us of the same requests.
        """
        if self._spool is not None and not self._done:
            self._plugin.flush()
            data[RIDES] = self._told(self._spool)

    def _told(self, spool: Spool) -> dict[str, Any]:
        first, frames = spool.take()
        # Rows are numbered when they are flushed, together with their windows: these are those that are told of.
        told = {"run": self._run, "first": first, "frames": frames, "rows": spool.rows, **self._offset()}
        seen = self._clock.seen
        if seen is not None and not self._one_clock:
            told["seen_ns"] = seen[1] - self._plugin.anchor_ns
        return told

    def on_end(self, **_: Any) -> None:
        """The run is over for the master: users stop, the rest is told."""
        self._runner.stop()
        self.finish()

    def finish(self) -> None:
        """All users have gone: the last frames are told. Twice is fine."""
        if not self._run or self._done:
            return
        self._plugin.close_recorder()
        self._done = True
        if self._spool is not None:
            self._send(LAST, **self._told(self._spool), told=self._spool.told)
        else:  # it is all in the run's journal
            self._send(LAST, run=self._run, first=0, frames=[], rows=0, told=0)

    def on_fetch(self, msg: Any, **_: Any) -> None:
        """Sends some parts of a file; the last of them says whether there is more."""
        if self._spool is None or msg.data["run"] != self._run or msg.data["kept"] not in ("rows", "told"):
            return
        at = int(msg.data["at"])
        for left in reversed(range(PARTS)):
            part = Part(at, at, b"")
            with suppress(OSError):
                part = self._spool.part(msg.data["kept"], at)
            ends = part.then == part.at
            told = {"run": self._run, "kept": msg.data["kept"], "at": part.at, "then": part.then}
            self._send(PART, **told, data=zlib.compress(part.data, 1), left=0 if ends else left, ends=ends)
            at = part.then
            if ends:
                return

    def on_over(self, msg: Any, **_: Any) -> None:
        """The master has what it wanted."""
        if msg.data["run"] == self._run:
            rows = self._spool.rows if self._spool is not None else 0
            self.tell("over", worker=self._plugin.worker, rows=rows, missing=msg.data["missing"])
            self._forget()
            self._over.set()

    def on_quitting(self, **_: Any) -> None:
        """This process has been asked to end: what it has measured is fetched first, where the master is there."""
        if self._spool is None or self._unheard:
            return
        self._runner.stop()
        self._over.wait(LEAVE_S)

    def _forget(self) -> None:
        """Lets go of a run's files."""
        if self._spool is not None:
            with suppress(StoreError):
                self._spool.close()
        if self._place is not None:
            shutil.rmtree(self._place, ignore_errors=True)
        self._spool = self._place = None
        self._cargo.forget()
        self._paths = []

    def leave(self) -> None:
        """The process ends. Rows that nobody fetched go with it."""
        if self._spool is not None:
            if self._spool.rows:
                log.warning("%d rows of this worker were not fetched by the master and are lost", self._spool.rows)
                self.tell("lost", rows=self._spool.rows)
            self._forget()


# --- The master's side -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Peer:
    """A worker as its master knows it."""

    id: str
    name: str
    host: str = ""
    inherits: bool = False
    """It was forked by this master and writes into the journal itself."""
    ready: bool = False
    heard_ns: int = 0
    """When it last said anything, on this machine's CLOCK_MONOTONIC."""
    offset: Offset | None = None
    begun: Offset | None = None
    """The offset with which it tells of this run; None where it takes no part in it."""
    course: Course | None = None
    """How its clock went during this run."""
    segment: Segment | None = None
    rows_segment: Segment | None = None
    frames: set[int] = field(default_factory=set)
    """Numbers of frames that came out of turn, above `whole`."""
    whole: int = 0
    """All frames below this number have come."""
    told: int = -1
    """How many frames there are; -1 until it is done."""
    rows: int = 0
    """Rows that it has told of."""
    rows_home: int = 0
    refused_frames: int = 0
    lost: bool = False
    share: int | None = None
    """Which share of a plan it sends; None for none."""
    reads: str = ""
    """The file that is being fetched from it."""
    read: int = 0
    """Frames of that file which have come."""
    fetched: bool = False
    equipped: bool | None = None
    """Whether the files that the plan sends are there; None until it has said so."""


class Master:
    """The master of a run, in its one process."""

    def __init__(self, plugin: "Plugin", runner: MasterRunner) -> None:
        self._plugin = plugin
        self._runner = runner
        self._peers: dict[str, Peer] = {}
        self._told: dict[str, Any] | None = None
        """The run that is open, as workers are told of it."""
        self._native = plugin.hosting is not None or (plugin.orders is not None and plugin.orders.native)
        self._begun = False
        self._doubled = 0
        """Workers that draw the rows of another one."""
        self._connected_at: dict[str, float] = {}
        self._turned_away = False
        """Locust has forgotten a worker for which it may have begun the test."""
        self._home = gevent.event.Event()
        """Nothing is being fetched."""
        self._home.set()
        self._progress = gevent.event.Event()
        for name, listener in (
            (HELLO, self.on_hello),
            (CLOCK, self.on_clock),
            (READY, self.on_ready),
            (LAST, self.on_last),
            (PART, self.on_part),
            (FILE, self.on_file),
            (HAVE, self.on_have),
        ):
            runner.register_message(name, listener)
        events = runner.environment.events
        events.worker_report.add_listener(self.on_report)  # type: ignore[no-untyped-call]  # as above
        events.worker_connect.add_listener(self.on_connect)  # type: ignore[no-untyped-call]  # as above
        gevent.spawn(self._look_after)
        if plugin.orders is not None and plugin.orders.plan is not None:
            gevent.spawn(self._relay, replace(plugin.orders))

    @property
    def joined(self) -> list[Peer]:
        """Those that take part in the open run and do not write into the journal themselves."""
        return [peer for peer in self._peers.values() if peer.segment is not None]

    def _send(self, peer: Peer, kind: str, **data: Any) -> None:
        with suppress(locust.exception.RPCError):
            self._runner.send_message(kind, data, peer.id)

    def _event(self, kind: str, at_ns: int | None = None, **more: Any) -> None:
        if self._plugin.recorder is not None:
            self._plugin.recorder.event(self._plugin.now_ns() if at_ns is None else at_ns, kind, **more)

    def _heard(self, client_id: str) -> Peer | None:
        peer = self._peers.get(client_id)
        if peer is not None:
            peer.heard_ns = time.monotonic_ns()
        return peer

    # --- coming in ---------------------------------------------------------------------------------------------------

    def on_hello(self, msg: Any, **_: Any) -> None:
        """A worker says who it is. One of another version is told to stay out."""
        told, client = msg.data, msg.node_id
        name = f"worker-{self._runner.get_worker_index(client)}"  # type: ignore[no-untyped-call]  # not annotated
        peer = Peer(client, name, _short(told.get("host", "")), bool(told.get("inherits")))
        why = None if peer.inherits else refusal(versions(), told, told.get("protocol"), self._native)
        if why is not None:
            if client not in self._peers:
                log.error("%s (%s) is refused: %s; install the same on both", name, peer.host, why)
                away = self._plugin.orders is not None or self._plugin.hosting is not None
                self._event("worker_refused", worker=name, host=peer.host, why=why, sent=not away)
            self._peers[client] = peer
            self._send(peer, WELCOME, refused=why, clock="")
            if self._plugin.orders is not None:
                self._turn_away(client)
            return
        if client not in self._peers:
            self._peers[client] = peer
            peer.ready = peer.inherits
            if peer.inherits:
                self._joins(peer)
        self._heard(client)
        self._send(peer, WELCOME, refused=None, clock=common("time"))

    def _turn_away(self, client: str) -> None:
        """Has Locust forget a worker: it would count it among those expected, and end the run when it goes."""
        node = self._runner.clients.pop(client, None)
        if node is None:
            return
        self._turned_away = True
        if self._runner._users_dispatcher is not None:
            self._runner._users_dispatcher.remove_worker(node)

    def on_clock(self, msg: Any, **_: Any) -> None:
        """A worker asks what time it is here."""
        at = time.monotonic_ns()
        peer = self._heard(msg.node_id)
        if peer is not None:
            self._send(peer, CLOCK, sent_ns=msg.data["sent_ns"], at_ns=at)

    def on_ready(self, msg: Any, **_: Any) -> None:
        """A worker knows its clock: it can take part, and does where a run is open."""
        peer = self._heard(msg.node_id)
        if peer is not None and not peer.ready:
            peer.ready = True
            self._note_offset(peer, msg.data)
            if self._told is not None and self._home.is_set():  # else the run is over, and nobody would fetch it
                self._tell(peer)

    def _note_offset(self, peer: Peer, told: dict[str, Any]) -> None:
        if "offset_ns" in told:
            peer.offset = Offset(int(told["offset_ns"]), int(told["uncertainty_ns"]))
            if peer.course is not None and "seen_ns" in told:
                peer.course.add(int(told["seen_ns"]), peer.offset)

    def _joins(self, peer: Peer) -> None:
        self._event("worker_joined", worker=peer.name, host=peer.host, late=self._begun)

    def begin(self, told: dict[str, Any]) -> None:
        """A run is open: workers are told of it once they are ready, those that are not are waited for a moment.

        Blocks the greenlet that begins the test, so that no worker sends before it records.
        """
        begun = time.monotonic()
        while not self._all_there(time.monotonic() - begun):
            gevent.sleep(0.02)
        for id in self._connected():
            if id not in self._peers:
                name = f"worker-{self._runner.get_worker_index(id)}"  # type: ignore[no-untyped-call]  # as above
                log.error("%s runs without Surgeline: what it sends is in Locust's statistics only", name)
                self._event("worker_unknown", worker=name, why="it runs without Surgeline")
        ready = [peer for peer in self._peers.values() if peer.ready and not peer.inherits]
        if told.get("users"):
            there = self._connected()
            told["workers"] = max(sum(peer.id in there for peer in ready), 1)
        self._told = told  # not before: who becomes ready meanwhile would be told of shares that are not dealt yet
        told["files"] = manifest(told) if told["plan"] is not None else []
        for peer in ready:
            self._tell(peer)
        if told["files"]:
            self._await(
                lambda: all(peer.equipped is not None or not self._lives(peer) for peer in self.joined), PIECE_S
            )
            if not all(peer.equipped for peer in self.joined):
                self._plugin.fault = self._plugin.fault or "a worker did not get the files that the plan sends in time"
                self._runner.environment.process_exit_code = 1
                gevent.spawn(self._runner.quit)
        self._begun = True

    def _all_there(self, waited_s: float) -> bool:
        """Whether all workers are ready, or have been waited for long enough."""
        there = self._connected()
        if self._turned_away:
            options = self._runner.environment.parsed_options
            wanted, most_s = getattr(options, "expect_workers", 1), getattr(options, "expect_workers_max_wait", 0)
            if len(there) < wanted and waited_s < (most_s or READY_S):
                return False
        return waited_s >= READY_S or all(self._is_ready(client) or self._is_speechless(client) for client in there)

    def _is_speechless(self, client: str) -> bool:
        since = self._connected_at.get(client, 0.0)
        return client not in self._peers and time.monotonic() - since > SPEECHLESS_S

    def on_connect(self, client_id: str, **_: Any) -> None:
        """Locust has one worker more."""
        self._connected_at.setdefault(client_id, time.monotonic())

    def _connected(self) -> list[str]:
        return [node.id for node in self._runner.clients.all if node.state != STATE_MISSING]

    def _is_ready(self, client_id: str) -> bool:
        peer = self._peers.get(client_id)
        return peer is not None and peer.ready

    def _tell(self, peer: Peer) -> None:
        """Lets a worker take part in the open run."""
        if self._told is None or peer.segment is not None:
            return
        journal = Path(self._told["journal"])
        peer.segment = Segment(journal, f"locust-{peer.name}", buffer_bytes=1 << 20)
        peer.rows_segment = Segment(journal, f"locust-{peer.name}-rows", buffer_bytes=1 << 20)
        peer.frames, peer.whole, peer.told, peer.rows, peer.rows_home = set(), 0, -1, 0, 0
        peer.lost, peer.reads, peer.read, peer.fetched, peer.begun = False, "", 0, False, peer.offset
        peer.course = Course(peer.offset) if peer.offset is not None else None
        self._joins(peer)
        plan: dict[str, Any] = {}
        peer.share, peer.equipped = None, None
        if self._told["plan"] is not None and not self._told["files"]:
            peer.share, plan = self._share(self._free(peer))
            if peer.share is None:
                self._idles(peer, DEALT_OUT)
        if peer.offset is not None:
            self._event("worker_clock", worker=peer.name, moment="begin", **peer.offset._asdict(), drift_ns=0)
        self._send(peer, RUN, **{**self._told, "machine": machine(), "share": peer.share, "begin_ns": None, **plan})

    def _idles(self, peer: Peer, why: str) -> None:
        """A worker without a share sends nothing, though it has users where Locust decides the load."""
        if self._told is not None and self._told.get("users"):
            log.error("%s sends nothing: %s", peer.name, why)
            self._event("worker_idle", worker=peer.name, host=peer.host, why=why)

    def _free(self, peer: Peer) -> list[int]:
        """The shares of the plan that nobody else has."""
        if self._told is None:
            return []
        taken = {other.share for other in self._peers.values() if other is not peer and not other.lost}
        return [share for share in range(int(self._told["workers"])) if share not in taken]

    def on_file(self, msg: Any, **_: Any) -> None:
        """A worker asks for a piece of a file that the plan sends; of others nothing is given."""
        peer, asked = self._heard(msg.node_id), msg.data
        if peer is None or self._told is None or asked["run"] != self._told["run"]:
            return
        items, number, at = self._told["files"], int(asked["number"]), int(asked["at"])
        data = piece_of(items[number], at) if 0 <= number < len(items) and at >= 0 else b""
        self._send(peer, PIECE, run=asked["run"], data=data)
        self._progress.set()

    def on_have(self, msg: Any, **_: Any) -> None:
        """A worker has the files, and gets its share; or it has not, and the run says so."""
        peer, told = self._heard(msg.node_id), msg.data
        if peer is None or self._told is None or told["run"] != self._told["run"] or peer.segment is None:
            return
        peer.equipped = not told["why"]
        if peer.equipped:
            peer.share, plan = self._share(self._free(peer))
            if peer.share is not None:
                self._send(peer, SHARE, run=told["run"], share=peer.share, **plan)
            else:
                self._idles(peer, DEALT_OUT)
        else:
            why = f"{peer.name} sends nothing: {_short(told['why'], 300)}"
            log.error("%s", why)
            self._event("note", reason=why)
            self._idles(peer, "it has not the files that the plan sends")
            self._plugin.fault = self._plugin.fault or why
        self._progress.set()

    def _share(self, free: list[int]) -> tuple[int | None, dict[str, Any]]:
        """The share of a plan for a worker that joins, and what it is told of it.

        Before the beginning the first that is free. After it, what is left of one whose worker was lost, from a moment
        ahead on; nothing where nobody was, or where an operator has changed the load meanwhile.
        """
        if self._told is not None and self._told.get("users"):
            return self._share_of_users(free), {}
        if not free:
            return None, {}
        if not self._begun:
            return free[0], {}
        from surgeline.locust import lane

        began = lane.LANE.begun_ns if lane.LANE is not None else None
        if began is None or self._told is None:
            return None, {}
        at = self._plugin.now_ns() + TAKE_OVER_NS
        compiled = self._told["compiled"]
        left = rest_of(compiled["workload"], at - began)
        if left is None:
            return None, {}
        return free[0], {"compiled": compiled | {"workload": left, "seed": compiled["seed"] + 1 + at}, "begin_ns": at}

    def _share_of_users(self, free: list[int]) -> int | None:
        """The share of a plan whose load Locust decides: a free one, or in a test that runs one that another has too.

        None where rows of test data would be used twice that may be used once only.
        """
        if free or self._told is None:
            return free[0] if free else None
        feeds = [feed for feed in self._told["compiled"]["feeds"] if feed["order"] != "random"]
        if any(not feed["wraps"] for feed in feeds):
            return None
        if feeds:
            reason = "a worker that joined late draws the same rows of test data as another one"
            self._event("note", reason=reason)
        self._doubled += 1
        return (self._doubled - 1) % int(self._told["workers"])

    # --- while it lasts ----------------------------------------------------------------------------------------------

    def on_report(self, client_id: str, data: dict[str, Any], **_: Any) -> None:
        """A stats message: the frames that ride in it go into the journal."""
        told = data.pop(RIDES, None)
        peer = self._heard(client_id)
        if peer is not None and isinstance(told, dict):
            self._take(peer, told)

    def on_last(self, msg: Any, **_: Any) -> None:
        """A worker has stopped and told the last."""
        peer = self._heard(msg.node_id)
        if peer is not None and peer.segment is not None:
            self._take(peer, msg.data)
            peer.told = int(msg.data["told"])
            self._progress.set()
            if self._begun and self._runner.state in (STATE_SPAWNING, STATE_RUNNING):
                self._loses(peer, "it left")  # in order: what it has is fetched before it goes
                self._fetch(peer)
                if peer.fetched:
                    self._close(peer, msg.data["run"])

    def _take(self, peer: Peer, told: dict[str, Any]) -> None:
        if self._told is None or peer.segment is None or told.get("run") != self._told["run"]:
            return
        self._note_offset(peer, told)
        peer.rows = max(peer.rows, int(told["rows"]))
        self._keep(peer, int(told["first"]), ((kind, payload) for kind, payload in told["frames"]))
        with suppress(StoreError):
            peer.segment.flush()

    def _keep(self, peer: Peer, first: int, frames: Iterable[tuple[int, bytes]]) -> None:
        """Appends those of the frames, numbered from `first`, that are not there yet."""
        for number, (kind, payload) in enumerate(frames, first):
            if number < peer.whole or number in peer.frames:
                continue
            peer.frames.add(number)
            if peer.segment is None or not _is_sound(kind, payload):
                peer.refused_frames += 1
                continue
            try:
                peer.segment.append(Frame(kind), payload)
            except StoreError as error:
                log.error("a worker's figures could not be kept: %s", error)
        while peer.whole in peer.frames:
            peer.frames.remove(peer.whole)
            peer.whole += 1

    def _relay(self, orders: Orders) -> None:
        """Passes on what is ordered, to those that cannot read it for themselves."""
        while True:
            for order in orders.fresh():
                for peer in self.joined:
                    self._send(peer, ORDER, order=order)
            gevent.sleep(0.05)

    def _look_after(self) -> None:
        """Who is there, twice a second: Locust tells nobody that a worker has gone."""
        while True:
            gevent.sleep(LOOK_S)
            if self._told is None or not self._begun or self._runner.state not in (STATE_SPAWNING, STATE_RUNNING):
                continue
            nodes = {node.id: node.state for node in self._runner.clients.all}
            for peer in self._peers.values():
                if not peer.inherits and peer.segment is None:
                    continue
                state = nodes.get(peer.id)
                gone = state is None or state == STATE_MISSING
                if gone and not peer.lost:
                    why = "it left" if state is None else "it was not heard of any more"
                    peer.lost = True
                    log.error("%s is lost: %s", peer.name, why)
                    self._event(
                        "worker_lost", self._plugin.since_ns(peer.heard_ns), worker=peer.name, host=peer.host, why=why
                    )
                elif peer.lost and not gone:
                    peer.lost = False
                    log.warning("%s is back", peer.name)
                    self._event("worker_back", worker=peer.name, host=peer.host)

    def _loses(self, peer: Peer, why: str) -> None:
        peer.lost = True
        log.error("%s is lost: %s", peer.name, why)
        share, peer.share = peer.share, None
        fit = [other for other in self.joined if other.equipped or (self._told is not None and not self._told["files"])]
        spare = [other for other in fit if other.share is None and not other.lost and other.told < 0]
        if self._begun and self._told is not None and share is not None and spare:
            spare[0].share, plan = self._share([share])
            if spare[0].share is not None:
                self._send(spare[0], SHARE, run=self._told["run"], share=share, **plan)
                if self._told.get("users"):
                    self._event("worker_back", worker=spare[0].name, host=spare[0].host)
        self._event("worker_lost", self._plugin.since_ns(peer.heard_ns), worker=peer.name, host=peer.host, why=why)

    # --- coming home -------------------------------------------------------------------------------------------------

    def bring_home(self) -> None:
        """The test has ended: workers stop, tell the rest, and their rows are fetched. Blocks until that is over."""
        told, peers = self._told, self.joined
        if told is None:
            return
        if not self._begun:
            self._home.wait()  # Locust may stop twice at once
            return
        self._begun = False
        self._home.clear()
        gevent.spawn(self._bring_all, told, peers).join()  # Locust may end the greenlet that waits here

    def _bring_all(self, told: dict[str, Any], peers: list[Peer]) -> None:
        try:
            self._bring(told, peers)
        finally:
            self._told = None
            self._home.set()

    def await_home(self) -> None:
        """Waits for what is being fetched: Locust stops when its last worker is lost, and may quit meanwhile."""
        self._home.wait(float(self._runner.environment.stop_timeout or 0.0) + DONE_S)

    def _bring(self, told: dict[str, Any], peers: list[Peer]) -> None:
        for peer in peers:
            self._send(peer, END, run=told["run"])
        grace_s = float(self._runner.environment.stop_timeout or 0.0) + DONE_S
        self._await(lambda: all(peer.told >= 0 or not self._lives(peer) for peer in peers), grace_s)
        for peer in peers:
            if peer.told >= 0:
                self._fetch(peer)
        self._await(lambda: all(peer.fetched or peer.told < 0 or not self._lives(peer) for peer in peers), grace_s)
        for peer in peers:
            self._close(peer, told["run"])

    def is_alone(self) -> bool:
        """Whether all workers that took part were lost."""
        return self._runner.worker_count <= 0 and any(peer.lost for peer in self._peers.values())

    def is_settled(self, done: Container[str]) -> bool:
        """Whether all shares of a plan are done, by the ids of the workers, but for those that nobody has any more."""
        forked = [peer for peer in self._peers.values() if peer.inherits]
        holders = forked or [peer for peer in self._peers.values() if peer.share is not None]
        return all(peer.id in done or peer.lost for peer in holders)

    def count_heads(self) -> None:
        """Locust has ended: a worker that was forked here and has not sent its last report was lost before."""
        for peer in self._peers.values():
            if peer.inherits and not peer.lost and time.monotonic_ns() - peer.heard_ns > UNREPORTED_NS:
                self._loses(peer, "it was not heard of any more")

    def _lives(self, peer: Peer) -> bool:
        return time.monotonic_ns() - peer.heard_ns < SILENCE_S * 1e9

    def _await(self, done: Callable[[], bool], patience_s: float) -> None:
        """Waits until something is so, as long as there is progress."""
        deadline = time.monotonic() + patience_s
        while not done() and time.monotonic() < deadline:
            self._progress.clear()
            if self._progress.wait(LOOK_S):
                deadline = time.monotonic() + patience_s

    def _fetch(self, peer: Peer, kept: str = "", at: int = 0) -> None:
        """Asks for some parts of a file; without a name, for what there is to fetch first."""
        if peer.rows == 0 and peer.whole >= peer.told:
            peer.fetched = True
            return
        peer.reads = kept or ("told" if peer.whole < peer.told else "rows")
        if self._told is not None:
            self._send(peer, FETCH, run=self._told["run"], kept=peer.reads, at=at)

    def on_part(self, msg: Any, **_: Any) -> None:
        """Whole frames of a worker's file. When as many parts have come as were asked for, the next are."""
        peer, part = self._heard(msg.node_id), msg.data
        if peer is None or self._told is None or part["run"] != self._told["run"] or part["kept"] != peer.reads:
            return
        self._progress.set()
        data = zlib.decompressobj().decompress(part["data"], LONGEST_FRAME)
        frames = [(int(kind), bytes(payload)) for kind, payload, _ in decode_frames(data)]
        if peer.reads == "rows":
            self._keep_rows(peer, frames)
        else:
            self._keep(peer, peer.read, frames)
            peer.read += len(frames)
        if part["ends"] and peer.reads == "told":
            self._fetch(peer, "rows")
        elif part["ends"]:
            peer.fetched = True
            if self._begun:
                self._close(peer, self._told["run"])
        elif part["left"] == 0:
            self._fetch(peer, peer.reads, int(part["then"]))

    def _keep_rows(self, peer: Peer, frames: list[tuple[int, bytes]]) -> None:
        for kind, payload in frames:
            if kind != Frame.ROWS or peer.rows_segment is None or not _is_sound(kind, payload):
                peer.refused_frames += 1
                continue
            try:
                peer.rows_segment.append(Frame.ROWS, _on_this_clock(payload, peer.course))
                peer.rows_home += rows_in(payload)
            except StoreError as error:
                log.error("a worker's rows could not be kept: %s", error)

    def _close(self, peer: Peer, run: str) -> None:
        """Says what of a worker is here and what is not, and lets it go."""
        missing = max(peer.rows - peer.rows_home, 0)
        if peer.told < 0 and not peer.lost:
            self._loses(peer, "it was not heard of any more" if not self._lives(peer) else "it did not stop")
        if peer.offset is not None and peer.begun is not None:
            drift = peer.offset.offset_ns - peer.begun.offset_ns
            mapped = peer.course is not None and peer.course.drifts
            more = {"drift_ns": drift, "mapped": mapped}
            self._event("worker_clock", worker=peer.name, moment="end", **peer.offset._asdict(), **more)
        frames = max(peer.told - peer.whole - len(peer.frames), 0) + peer.refused_frames
        self._event("worker_rows", worker=peer.name, rows=peer.rows_home, missing=missing, frames_missing=frames)
        if missing:
            log.error("%d of %d rows of %s are missing", missing, peer.rows, peer.name)
        if missing and self._plugin.recorder is not None:
            self._plugin.recorder.left_out(missing)
        for segment in (peer.segment, peer.rows_segment):
            if segment is not None:
                with suppress(StoreError):
                    segment.close()
        peer.segment = peer.rows_segment = None
        self._send(peer, OVER, run=run, missing=missing)


def _is_sound(kind: object, payload: object) -> bool:
    """Whether a frame of another machine may go into the journal: of a known kind, bounded, and readable."""
    if not isinstance(payload, bytes) or len(payload) > LONGEST_FRAME or kind not in frozenset(Frame):
        return False
    columns = COLUMNS.get(Frame(kind))  # type: ignore[arg-type]  # it is one, as has just been seen
    try:
        if columns is None:
            value = json.loads(payload)
            return isinstance(value, dict) and encode_object(value) is not None
        return set(columns) <= set(decode_table(payload).columns)
    except (SampleError, ValueError, RecursionError):
        return False


def _on_this_clock(payload: bytes, course: Course | None) -> bytes:
    """Rows of a machine whose clock has drifted, at the moments of this one's; what they took stays as it was."""
    if course is None or not course.drifts:
        return payload
    moved = bytearray(payload)
    table = decode_table(memoryview(moved))  # its columns are views: what is written into them is written into `moved`
    off = course.off_ns(table["intended_ns"])
    for name in ("intended_ns", "start_ns", "end_ns"):
        column = table[name]
        column[:] = np.where(column >= 0, np.maximum(column - off, 0), column)
    return bytes(moved)


def greet(runner: WorkerRunner, flush: Callable[[], None]) -> None:
    """A worker that its master forked says that it is there; what it tells Locust of is in the journal by then."""
    hook = runner.environment.events.report_to_master
    hook.add_listener(lambda **_: flush())  # type: ignore[no-untyped-call]  # Locust's events are not annotated
    with suppress(locust.exception.RPCError):
        runner.register_message(WELCOME, lambda **_: None)
        hello = {"protocol": PROTOCOL, **versions(), "host": socket.gethostname(), "inherits": True}
        runner.send_message(HELLO, hello)


def reporting() -> int | None:
    """Where `surgeline worker` listens, for the process that it started and those that this one forks."""
    told = os.environ.pop(JOIN, "")
    if not told:
        return None
    os.set_inheritable(int(told), False)
    return int(told)


def report_each_second() -> None:
    """Workers send their statistics each second instead of every three: the live view and the abort rule read them."""
    locust.runners.WORKER_REPORT_INTERVAL = 1.0


def loopback_only(parser: Any, **_: Any) -> None:
    """Locust's own default is every address of the machine; ours is none but its own, unless it is told otherwise."""
    parser.set_defaults(master_bind_host="127.0.0.1")
