"""One request of a plan that is due: sent, redirected, judged, and made into its row, whatever comes of it."""

import logging
import time
import traceback
from typing import TYPE_CHECKING

from gevent import GreenletExit

from surgeline.locust.exchanges import Side
from surgeline.locust.recorder import Row
from surgeline.locust.steps import REDIRECTS, HostedStep, Rendered, redirect_path
from surgeline.locust.wire import AnswerReader, Broken, Connection, Timing
from surgeline.plan.evaluate import Answer
from surgeline.samples import Outcome

if TYPE_CHECKING:
    from surgeline.locust.lane_greenlets import GreenletLane, Iteration

log = logging.getLogger("surgeline")

_NOT_SENT = frozenset({"client_ports", "client_fds"})
_FAILURES = frozenset({"redirect_loop", "redirect_refused"})


class Attempt:
    """The way of one due request to its row. Every way ends in exactly one `finish`."""

    def __init__(
        self, lane: "GreenletLane", iteration: "Iteration", step: HostedStep, request: Rendered, due_ns: int
    ) -> None:
        self._lane = lane
        self._iteration = iteration
        self._step = step
        self._request = request
        self._due_ns = due_ns
        self._start_ns = -1
        self._timing = Timing()
        self._answer: AnswerReader | None = None
        self._counted = False
        self.stage = lane.timeline.stage_at(due_ns)
        lane.recorder.count(due_ns, self.stage, step.endpoint, due=1)

    def run(self) -> tuple[int, bool]:
        """When it ended, and whether its iteration goes on. GreenletExit ends it as aborted, and goes on its way."""
        lane, step = self._lane, self._step
        self._start_ns = lane.now_ns()
        lane.lags.append(self._start_ns - self._due_ns)
        goes_on = not step.step.extract
        cut_off: GreenletExit | None = None
        try:
            reader = self._answer = self._chain(lane.hosted.timeout_ns if step.timeout_ns is None else step.timeout_ns)
            end = lane.now_ns()
            # What follows can wait; other answers that have come meanwhile want to be looked at the clock first.
            cut_off = lane.give_way()
            answer = Answer(reader.status, reader.headers, bytes(reader.body), end - self._start_ns)
            outcome, error, goes_on = step.judge(answer, self._iteration.scope)
        except Broken as broken:
            end, error = lane.now_ns(), broken.kind
            outcome = _outcome_of(error)
        except GreenletExit:
            self.finish(Outcome.ABORTED, "", -1)
            raise
        except Exception:
            log.error("a request broke in the engine itself:\n%s", traceback.format_exc())
            end, outcome, error = lane.now_ns(), Outcome.ERROR, "engine_fault"
        self.finish(outcome, error, end)
        if cut_off is not None:
            raise cut_off
        return end, goes_on

    def finish(self, outcome: Outcome, error: str, end_ns: int = -1) -> None:
        """Books the request: its row, its part in the counts, Locust's statistics."""
        lane, step, timing, scope = self._lane, self._step, self._timing, self._iteration.scope
        if outcome is not Outcome.NOT_SENT:
            self._count_sent()
        unsent = outcome is Outcome.NOT_SENT
        row = Row(
            step.endpoint,
            self._iteration.scenario.name,
            self.stage,
            scope.user,
            scope.iteration,
            step.method,
            lane.hosted.public(lane.hosted.origin + self._request.path),
            self._due_ns,
            -1 if unsent else self._start_ns,
            -1 if unsent else end_ns,
            timing.dns_ns,
            timing.connect_ns,
            timing.tls_ns,
            timing.send_ns,
            timing.wait_ns,
            timing.receive_ns,
            timing.status,
            int(outcome),
            error,
            timing.bytes_out,
            timing.bytes_in,
            timing.reused,
            timing.protocol,
            self._server_timing(),
        )
        lane.recorder.add(row)
        if unsent or outcome is Outcome.ABORTED:
            return
        wrong = error if outcome is not Outcome.OK else ""
        lane.exchanges.offer(step.endpoint, self._start_ns, end_ns - self._due_ns, wrong, self._sides)
        lane.tell_locust(step, row, len(self._answer.body) if self._answer is not None else 0)

    def _chain(self, timeout_ns: int) -> AnswerReader:
        """The answer at the end of the redirects. Raises Broken."""
        hosted, request, hops = self._lane.hosted, self._request, 0
        deadline = time.monotonic_ns() + timeout_ns
        while True:
            reader = self._exchange(request, deadline, hops)
            self._iteration.jar.update(reader.headers, request.path, time.time())
            location = next((value for name, value in reader.headers if name.lower() == "location"), None)
            if reader.status not in REDIRECTS or location is None or hosted.max_redirects == 0:
                return reader
            self._answer = reader
            path = redirect_path(hosted.origin, request.path, location)
            if path is None:
                raise Broken("redirect_refused")
            if hops >= hosted.max_redirects:
                raise Broken("redirect_loop")
            hops += 1
            request = request.redirected(reader.status, path)

    def _exchange(self, request: Rendered, deadline_ns: int, hops: int) -> AnswerReader:
        """One request and its answer on a connection that is idle, or new."""
        lane, timing = self._lane, self._timing
        reader = AnswerReader(request.method == "HEAD", lane.hosted.max_body_bytes)
        before, reusable, connection = timing.bytes_out, False, None
        try:
            connection = self._connection(deadline_ns)
            self._count_sent()
            cookies = self._iteration.jar.header(request.path, time.time())
            reusable = connection.exchange(request.bytes_with(cookies), reader, timing, deadline_ns)
        except Broken as broken:
            if hops and broken.kind.endswith("_timeout"):
                raise Broken("total_timeout") from broken
            raise
        finally:
            if hops and timing.bytes_out > before:
                lane.recorder.count(self._due_ns, self.stage, self._step.endpoint, hops=1)
            if connection is not None:
                if reusable:
                    self._iteration.idle.append(connection)
                else:
                    lane.connections -= 1
                    connection.close()
        return reader

    def _connection(self, deadline_ns: int) -> Connection:
        """The idle connection that was used last and is still good, or a new one."""
        idle = self._iteration.idle
        while idle:
            connection = idle.pop()
            if connection.silent():
                return connection
            self._lane.connections -= 1
            connection.close()
        connection = Connection.open(self._lane.target, self._timing, deadline_ns)
        self._lane.connections += 1
        return connection

    def _count_sent(self) -> None:
        if not self._counted:
            self._counted = True
            self._lane.recorder.count(self._due_ns, self.stage, self._step.endpoint, sent=1)

    def _server_timing(self) -> str:
        headers = self._answer.headers if self._answer is not None else ()
        told = next((value for name, value in headers if name.lower() == "server-timing"), "")
        return self._lane.hosted.public(told)[:200]

    def _sides(self) -> tuple[Side, Side | None]:
        request, answer = self._request, self._answer
        asked = Side(f"{request.method} {self._lane.hosted.origin}{request.path}", list(request.headers), request.body)
        if answer is None:
            return asked, None
        return asked, Side(str(answer.status), answer.headers, bytes(answer.body))


def _outcome_of(kind: str) -> Outcome:
    if kind.endswith("_timeout"):
        return Outcome.TIMEOUT
    if kind in _FAILURES:
        return Outcome.FAILURE
    return Outcome.NOT_SENT if kind in _NOT_SENT else Outcome.ERROR
