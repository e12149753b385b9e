"""Proxies, Unix sockets, source addresses, families of addresses and TLS: looked at beforehand, gone during the run."""

import base64
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
from tests.told import told_by
from tests.ways import Seen, serving

from surgeline import cli, runner
from surgeline.cli import Refused, withheld
from surgeline.cli.live import Silent
from surgeline.cli.order import Wanted, order_from
from surgeline.cli.run import run as command
from surgeline.cli.ways import Room, bounded, shortage
from surgeline.engines import Ending
from surgeline.engines.locust import _plan_refusal
from surgeline.engines.native import available
from surgeline.plan.text import dump_plan, parse_plan
from surgeline.samples import Outcome
from surgeline.store.rundir import Run


@dataclass
class Done:
    """What came of a command: its exit code, what it said, and its run where there was one."""

    code: int
    said: str
    run: Run | None = None

    @property
    def errors(self) -> set[str]:
        """What is in the rows' column `error`."""
        return self.column("error")

    def column(self, name: str) -> set[str]:
        """What is in one of the rows' columns."""
        assert self.run is not None, self.said
        return {str(value) for table in self.run.rows((name,)) for value in list(table[name])}


Command = Callable[..., Done]

pytestmark = pytest.mark.skipif(available() is not None, reason="the native engine is not built")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """`surgeline run` in a directory of its own, off a terminal, without the pages."""
    monkeypatch.chdir(tmp_path)

    def call(plan: str, *arguments: str, **environment: str) -> Done:
        if "\n" in plan:
            Path("plan.yaml").write_text(plan, encoding="utf-8")
            plan = "plan.yaml"
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        given = {**command.make_context("run", [plan, *arguments]).params}
        given.pop("client")
        with monkeypatch.context() as patched:
            patched.setattr(sys, "argv", ["surgeline", "run", plan, *arguments])
            try:
                order = order_from(given.pop("subject"), Wanted(**given))
                measured = runner.measure(order, Silent(), threading.Event())
            except Exception as error:
                return Done(cli._code(error) or 1, capsys.readouterr().err + str(error))
        return Done(0, capsys.readouterr().err, measured)

    return call


def _plan(target: str, *more: str, load: str = "{users: 2, for: 300ms}") -> str:
    return "\n".join(
        [
            f"target: {target}",
            "scenarios: {a: {think_time: 10ms, steps: [{get: /x, check: {json: {$.id: 1}}}]}}",
            f"workload: {{model: closed, stages: [{load}]}}",
            *more,
            "",
        ]
    )


def test_a_unix_socket_is_a_way(run: Command, tmp_path: Path) -> None:
    """From the plan or as curl's option; the host's name need not exist, and nobody is asked for consent."""
    with serving(path=tmp_path / "app.sock") as seen:
        done = run(_plan("http://app.nowhere.test/v1", f"connection: {{unix_socket: {tmp_path}/app.sock}}"))
        assert done.code == 0, done.said
        assert {line.split()[1] for line in seen.lines} == {"/v1/x"}
        assert {headers["host"] for headers in seen.headers} == {"app.nowhere.test"}
        assert done.errors == {""}
        assert done.run is not None
        kept = done.run.meta.raw
        assert kept["settings"]["authorized"] == "own socket" and kept["environment"]["generator_shares_machine"]
        assert f"over the Unix socket {tmp_path}/app.sock" in done.said
        done = run("http://app.nowhere.test/", "--unix-socket", "app.sock", "-u", "1", "-t", "200ms", "--out", "more")
        assert done.code == 0, done.said


def test_a_socket_nobody_listens_on_is_said_so(run: Command, tmp_path: Path) -> None:
    """One sentence, exit 3: nothing was measured."""
    way = f"connection: {{unix_socket: {tmp_path}/gone.sock}}"
    done = run(_plan("http://app.test", way))
    assert (done.code, "There is no Unix socket" in done.said) == (3, True), done.said
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "gone.sock"))
    listener.close()
    done = run(_plan("http://app.test", way))
    assert (done.code, "Nothing is listening on the Unix socket" in done.said) == (3, True), done.said


def test_a_proxy_is_gone_through_and_its_password_stays_secret(run: Command, tmp_path: Path) -> None:
    """Plain HTTP in absolute form, in the look beforehand as in the run; the environment's own proxies are not used."""
    with serving() as target, serving() as proxy:
        plan = _plan(
            f"http://127.0.0.1:{target.port}",
            f"connection: {{proxy: 'http://me:{{{{env.PW}}}}@127.0.0.1:{proxy.port}'}}",
        )
        done = run(plan, PW="hunter-2222")
        assert done.code == 0, done.said
        assert {line.split()[1] for line in proxy.lines} == {f"http://127.0.0.1:{target.port}/x"}
        wanted = "Basic " + base64.b64encode(b"me:hunter-2222").decode()
        assert {headers["proxy-authorization"] for headers in proxy.headers} == {wanted}
        assert not target.lines, "this proxy answers itself"
        place = f"127.0.0.1:{proxy.port}"
        option = f"http://me:hunter-2222@{place}"
        done = run(_plan(f"http://127.0.0.1:{target.port}"), "--proxy", option, "--out", "more")
        assert done.code == 0 and f"through the proxy {place}" in done.said, done.said
        assert {headers.get("proxy-authorization") for headers in proxy.headers} == {wanted}
        for path in tmp_path.rglob("*"):
            if path.is_file():
                assert b"hunter-2222" not in path.read_bytes(), path
                assert wanted.removeprefix("Basic ").encode() not in path.read_bytes(), path
        proxy.lines.clear()
        done = run(
            _plan(f"http://127.0.0.1:{target.port}"),
            "--out",
            "third",
            http_proxy=f"http://{place}",
            ALL_PROXY=f"http://{place}",
        )
        assert done.code == 0 and not proxy.lines and target.lines, done.said


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[tuple[Seen, trustme.CA]]:
    """An https server for localhost and 127.0.0.1, its authority in ca.pem."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1", "shop.test").configure_cert(context)
    with serving(context=context) as seen:
        yield seen, authority


def test_https_goes_through_a_tunnel_of_the_proxy(run: Command, shop: tuple[Seen, trustme.CA], tmp_path: Path) -> None:
    """Asked with CONNECT by the look and by the engine; a proxy that wants a password is said to, with exit 3."""
    target = f"https://127.0.0.1:{shop[0].port}"
    wanted = "Basic " + base64.b64encode(b"me:pass").decode()
    with serving(wanted=wanted) as proxy:
        done = run(
            _plan(target, "connection: {proxy: '{{env.P}}'}", "tls: {ca: ca.pem}"),
            P=f"http://me:pass@127.0.0.1:{proxy.port}",
        )
        assert done.code == 0 and done.errors == {""}, done.said
        assert {line.rsplit(" ", 1)[0] for line in proxy.lines} == {f"CONNECT 127.0.0.1:{shop[0].port}"}
        assert shop[0].lines
        way = f"connection: {{proxy: http://127.0.0.1:{proxy.port}}}"
        done = run(_plan(target, way, "tls: {ca: ca.pem}"))
        assert done.code == 3 and "it answers 407" in done.said, done.said
        done = run(_plan(target, way, "tls: {ca: ca.pem}"), "--no-preflight", "--out", "more")
        assert done.errors == {"proxy_refused"} and done.run is not None
        assert "answered 407 to CONNECT" in json.dumps(runner.conclude(done.run)["trust"])
    done = run(_plan(target, way, "tls: {ca: ca.pem}"))
    assert done.code == 3 and "proxy 127.0.0.1" in done.said and "cannot be reached" in done.said


def test_a_foreign_proxy_needs_consent_as_a_target_does(run: Command) -> None:
    """And where only the proxy knows the target's address, nobody can tell whose it is."""
    done = run(_plan("http://127.0.0.1:1", "connection: {proxy: http://203.0.113.7:3128}"))
    assert done.code == 2 and "the proxy 203.0.113.7:3128" in done.said and "--authorized" in done.said
    done = run(_plan("http://shop.invalid", "connection: {proxy: http://127.0.0.1:1}"))
    assert done.code == 2 and "whose address only the proxy knows" in done.said


TROUBLES: list[tuple[str, tuple[str, ...], str]] = [
    ("unknown authority", (), "nobody who is trusted has signed its certificate"),
    ("wrong name", ("tls: {ca: ca.pem, server_name: other.test}",), "its certificate is for another name"),
    ("a version it does not speak", ("tls: {ca: ca.pem, versions: [1.2]}",), "no version of TLS that is allowed here"),
    ("no client certificate", ("tls: {ca: ca.pem}",), "client certificate"),
]


@pytest.mark.parametrize(("name", "more", "said"), TROUBLES, ids=lambda value: value if isinstance(value, str) else "")
def test_what_tls_lacks_is_said_before_the_load(
    run: Command, tmp_path: Path, name: str, more: tuple[str, ...], said: str
) -> None:
    """In words of the reader's, with exit 3, and by the same options that the engine has."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    authority.issue_cert("127.0.0.1").configure_cert(context)
    if name == "no client certificate":
        context.verify_mode = ssl.CERT_REQUIRED
        authority.configure_trust(context)
    with serving(context=context) as seen:
        done = run(_plan(f"https://127.0.0.1:{seen.port}", *more))
    assert done.code == 3 and said in done.said, done.said
    assert not seen.lines and "Traceback" not in done.said


def test_a_plan_brings_its_authority_certificate_and_key(run: Command, tmp_path: Path) -> None:
    """From its own folder, or named by curl's options from anywhere; the key is in no file of the run."""
    authority = trustme.CA()
    (tmp_path / "keys").mkdir()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    mine = authority.issue_cert("client.test")
    mine.cert_chain_pems[0].write_to_path(str(tmp_path / "keys" / "client.pem"))
    mine.private_key_pem.write_to_path(str(tmp_path / "keys" / "client.key"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    authority.issue_cert("shop.test").configure_cert(context)
    with serving(context=context) as seen:
        target = f"https://127.0.0.1:{seen.port}"
        more = "server_name: shop.test, certificate: keys/client.pem, key: keys/client.key"
        done = run(_plan(target, f"tls: {{ca: ca.pem, {more}}}"))
        assert done.code == 0 and done.errors == {""}, done.said
        plan = _plan(target, "tls: {server_name: shop.test}")
        done = run(
            *(plan, "--cacert", "ca.pem", "--cert", "keys/client.pem", "--key", f"{tmp_path}/keys/client.key"),
            *("--out", "more"),
        )
        assert done.code == 0, done.said
    key = mine.private_key_pem.bytes().splitlines()[1]
    for path in (*(tmp_path / "surgeline-runs").rglob("*"), *(tmp_path / "more").rglob("*")):
        assert not path.is_file() or key not in path.read_bytes(), path


def test_files_of_tls_lie_beside_the_plan_and_are_pem(run: Command, tmp_path: Path) -> None:
    """Each bad one is a sentence that names the key."""
    (tmp_path / "der.pem").write_bytes(b"\x30\x82\x01\x00")
    (tmp_path / "cut.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    (tmp_path / "link.pem").symlink_to("/etc/hostname")
    (tmp_path / "locked.pem").write_text(
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"
    )
    (tmp_path / "old.pem").write_text("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n")
    for tls, said in (
        ("{certificate: cut.pem, key: locked.pem}", "tls.key: locked.pem is locked by a passphrase"),
        ("{certificate: cut.pem, key: old.pem}", "tls.key: old.pem is locked by a passphrase"),
        ("{ca: gone.pem}", "tls.ca: there is no file gone.pem beside the plan"),
        ("{ca: der.pem}", "tls.ca: der.pem is not in PEM form"),
        ("{ca: link.pem}", "tls.ca: link.pem leads out of the plan's folder"),
    ):
        done = run(_plan("https://127.0.0.1:1", f"tls: {tls}"))
        assert done.code == 2 and said in done.said, done.said
    with serving() as seen:
        done = run(_plan(f"https://127.0.0.1:{seen.port}", "tls: {ca: cut.pem}"))
        assert done.code == 3 and "The files that `tls` names cannot be used" in done.said, done.said
        done = run(f"https://127.0.0.1:{seen.port}", "--cacert", "nowhere.pem")
        assert done.code == 2 and "tls.ca: nowhere.pem cannot be read" in done.said, done.said


@pytest.mark.parametrize("as_plan", [True, False], ids=["plan", "URL"])
def test_http_and_https_are_told_apart(run: Command, shop: tuple[Seen, trustme.CA], as_plan: bool) -> None:
    """Either one written for the other is one sentence that has the right one, and exit 3."""
    with serving() as plain:
        target = f"https://127.0.0.1:{plain.port}"
        done = run(_plan(target) if as_plan else target)
        assert done.code == 3 and "does not speak TLS" in done.said, done.said
        assert f"write http://127.0.0.1:{plain.port}" in done.said and "SSL" not in done.said
    target = f"http://127.0.0.1:{shop[0].port}"
    done = run(_plan(target) if as_plan else target)
    assert done.code == 3 and "speaks TLS, not plain HTTP" in done.said, done.said
    assert f"Write https://127.0.0.1:{shop[0].port}" in done.said


def test_ipv6_works_from_the_url_to_the_report(run: Command, tmp_path: Path) -> None:
    """Brackets where a host and a port stand together; loopback needs no consent; whoever listens is found."""
    try:
        serving_six = serving("::1")
        seen = serving_six.__enter__()
    except OSError as error:
        pytest.skip(f"this machine has no ::1: {error}")
    try:
        target = f"http://[::1]:{seen.port}"
        done = run(f"{target}/", "-u", "2", "-t", "300ms")
        assert done.code == 0, done.said
        assert {headers["host"] for headers in seen.headers} == {f"[::1]:{seen.port}"}
        assert done.run is not None
        kept = done.run.meta.raw
        assert kept["settings"]["addresses"] == ["::1"] and kept["settings"]["authorized"] == "own address"
        asked = f"from surgeline.served import by_port; print(by_port({seen.port}))"
        found = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, timeout=60).stdout
        assert str(os.getpid()) in found
        assert done.column("url") == {f"{target}/"}
        done = run(_plan(target, "connection: {ip: 6, source_addresses: '::1'}"), "--out", "more")
        assert done.code == 0, done.said
        done = run(_plan(target), "--engine", "locust", "--out", "third")
        assert done.code == 0, done.said
        done = run(_plan(target, "connection: {ip: 4}"))
        assert done.code == 3 and "has no IPv4 address" in done.said, done.said
    finally:
        serving_six.__exit__(None, None, None)


def test_a_name_is_asked_for_one_family_only(run: Command) -> None:
    """localhost is 127.0.0.1 and often ::1; -4 and -6 say which."""
    with serving() as seen:
        done = run(f"http://localhost:{seen.port}/", "-4", "-u", "1", "-t", "200ms")
        assert done.code == 0 and "IPv4 only" in done.said, done.said


def test_connections_begin_from_the_sources(run: Command, tmp_path: Path) -> None:
    """Each in turn, a range written out; an address of somebody else's is refused before anything is sent."""
    with serving() as seen:
        target = f"http://127.0.0.1:{seen.port}"
        more = "connection: {source_addresses: 127.0.0.2..127.0.0.4, keep_alive: false}"
        done = run(_plan(target, more, load="{users: 3, for: 300ms}"))
        assert done.code == 0 and done.errors == {""}, done.said
        assert {peer[0] for peer in seen.peers[1:]} >= {"127.0.0.2", "127.0.0.3", "127.0.0.4"}
        assert "from 3 source addresses, a new connection for each request" in done.said
        during = [headers for headers in seen.headers if "x-surgeline-run" in headers]
        assert {headers["connection"] for headers in during} == {"close"}
        done = run(_plan(target, "connection: {source_addresses: 192.0.2.9}"))
        assert done.code == 3 and "not an address of this machine" in done.said, done.said
        done = run(_plan(target, "connection: {source_addresses: 192.0.2.9}"), "--no-preflight")
        assert "connections cannot begin from 192.0.2.9" in done.said and done.code != 0, done.said


def test_without_the_native_engine_locust_says_what_it_leaves_to_it() -> None:
    """By its key, before anything is sent; with it, Locust's workers have it send, and all of it is done."""
    for more, key in (("connection: {keep_alive: false}", "connection.keep_alive"), ("tls: {ca: a.pem}", "tls.ca")):
        plan = parse_plan(_plan("http://127.0.0.1:1", more), "plan.yaml")
        assert f"`{key}` is done by the native engine only" in (_plan_refusal(plan, native=False) or "")
        assert _plan_refusal(plan, native=True) is None


# --- Is there room? --------------------------------------------------------------------------------------------------


def test_the_arithmetic_of_descriptors_and_ports() -> None:
    """What is too much is said with its numbers; what fits is not said."""
    room = Room(descriptors=20_000, ports=28_232)
    assert shortage(19_800, room) is None
    assert "leaves 19,800" in (shortage(19_801, room) or "")
    wide = Room(descriptors=1_000_000, ports=28_232)
    assert shortage(28_232, wide) is None
    said = shortage(60_000, wide) or ""
    assert "28,232 for each pair" in said and "127.0.0.2..127.0.0.4" in said
    assert shortage(60_000, Room(1_000_000, 28_232, pairs=3)) is None
    assert shortage(60_000, Room(1_000_000, None)) is None, "a Unix socket takes no ports"


def test_more_users_than_there_is_room_for_are_refused() -> None:
    """With the arithmetic; `--anyway` starts all the same, and a pool needs as many as are in flight."""
    plan = parse_plan(_plan("http://127.0.0.1:1", load="{users: 400, for: 1s}"), "plan.yaml")
    room = Room(descriptors=300, ports=28_232)
    with pytest.raises(Refused, match="of 300 open files, 200 are for itself, which leaves 100"):
        bounded(plan, plan.load(), room, Wanted())
    assert bounded(plan, plan.load(), room, Wanted(anyway=True)) == 400
    pooled = parse_plan(dump_plan(plan) + "connection: {share: pool}\n", "plan.yaml")
    assert bounded(pooled, pooled.load(), room, Wanted(max_in_flight=50)) == 50
    few = parse_plan(_plan("http://127.0.0.1:1"), "plan.yaml")
    assert bounded(few, few.load(), Room(20_000, 28_232), Wanted()) == 10_000


def test_arrivals_are_bounded_by_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    """By descriptors, by ports, and by the user; short connections at a high rate are warned of."""
    plan = parse_plan(
        _plan("http://127.0.0.1:1").replace("closed", "open").replace("users: 2", "rate: 2000/s"), "plan.yaml"
    )
    assert bounded(plan, plan.load(), Room(20_000, 28_232), Wanted()) == 10_000
    assert capsys.readouterr().err == ""
    assert bounded(plan, plan.load(), Room(20_000, 100), Wanted()) == 100
    assert "100 ports" in capsys.readouterr().err
    assert bounded(plan, plan.load(), Room(1_000, 28_232), Wanted(max_in_flight=5_000)) == 800
    assert "--max-in-flight is taken as 800" in capsys.readouterr().err
    short = parse_plan(dump_plan(plan) + "connection: {keep_alive: false}\n", "plan.yaml")
    bounded(short, short.load(), Room(20_000, 28_232, held_s=60.0), Wanted())
    assert "2,000 connections begin each second" in capsys.readouterr().err
    bounded(short, short.load(), Room(20_000, 28_232, held_s=1.0), Wanted())
    assert capsys.readouterr().err == ""


EXHAUST = """
import json, resource, sys, time
from pathlib import Path
from surgeline.engines import Settings
from surgeline.engines.native import NativeEngine
from surgeline.plan.text import parse_plan
from surgeline.samples import Frame, encode_object
from surgeline.store.journal import Segment
plan = parse_plan(sys.argv[1], "plan.yaml")
sink = Segment(Path("journal"))
sink.append(Frame.EVENT, encode_object({"at_ns": 0, "kind": "note"}))  # opens it, while there are descriptors
NativeEngine()  # likewise what has to be imported
import surgeline._engine
resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))
running = NativeEngine().start(plan, Settings("r", time.monotonic_ns(), None, grace_ns=10**9), sink)
ending = running.wait(30)
sink.close()
print(json.dumps([ending.reason, ending.detail]))
"""


def test_a_process_without_descriptors_says_client_fds(tmp_path: Path) -> None:
    """The system's own refusal, where nobody counted beforehand: not sent, and the run goes on to its end."""
    (tmp_path / "journal").mkdir()
    with serving() as seen:
        plan = _plan(f"http://127.0.0.1:{seen.port}", load="{users: 100, for: 1s}")
        done = subprocess.run(
            [sys.executable, "-c", EXHAUST, plan], cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 0, done.stderr
    told = told_by(tmp_path / "journal", Ending(*json.loads(done.stdout)))
    assert told.ending.reason == "finished", told.ending
    errors = {row["error"] for row in told.rows}
    assert errors == {"", "client_fds"}
    assert {row["outcome"] for row in told.rows if row["error"]} == {int(Outcome.NOT_SENT)}
    assert told.due == len(told.rows) and told.sent == told.due - told.outcomes[Outcome.NOT_SENT]


NAMESPACE = """
import fcntl, json, os, socket, struct, sys, threading
sys.path.insert(0, {tests!r})
with socket.socket() as made:
    fcntl.ioctl(made, 0x8914, struct.pack("16sh14s", b"lo", 0x49, b""))
with open("/proc/sys/net/ipv4/ip_local_port_range", "w") as limits:
    limits.write("40000 40099")
from surgeline import runner
from surgeline.cli.live import Silent
from surgeline.cli.order import Wanted, order_from
from tests.ways import serving
told = []
with serving() as seen:
    for more in ("", "connection: {{source_addresses: 127.0.0.2..127.0.0.3}}"):
        with open("plan.yaml", "w", encoding="utf-8") as plan:
            plan.write({plan!r}.replace("PORT", str(seen.port)) + more)
        order = order_from("plan.yaml", Wanted(anyway=True, look_first=False))
        run = runner.measure(order, Silent(), threading.Event())
        told.append(sorted({{str(value) for table in run.rows(("error",)) for value in table["error"]}}))
print(json.dumps(told))
"""


def test_ports_that_run_out_are_nobodys_error_but_ours(tmp_path: Path) -> None:
    """
    In a network of its own with 100 ports, 150 users: said beforehand, and with `--anyway` each request without a port
    is one that was not sent. Two source addresses have 200 ports.
    """
    script = NAMESPACE.format(
        tests=str(Path(__file__).parent.parent), plan=_plan("http://127.0.0.1:PORT", load="{users: 150, for: 1s}")
    )
    try:
        subprocess.run(["unshare", "-n", "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a network namespace of one's own is not to be had here")
    done = subprocess.run(
        ["unshare", "-n", sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 0, done.stderr
    assert "150 connections at once need more ports than there are: 100 for each pair" in done.stderr, done.stderr
    without, with_sources = (set(errors) for errors in json.loads(done.stdout))
    assert "client_ports" in without and without <= {"", "client_ports"}, without
    assert with_sources == {""}


def test_a_command_line_is_kept_without_a_password() -> None:
    """However the proxy's URL is written."""
    for written in ("http://me:pw@h:1", "me:pw@h:1", "--proxy=http://me:pw@h:1"):
        assert "pw" not in " ".join(withheld.command(["surgeline", "run", "--proxy", written]))
    assert withheld.command(["run", "http://h:1/a@b", "--slo", "p95 < 1s"]) == (
        "run",
        "http://h:1/a@b",
        "--slo",
        "p95 < 1s",
    )
