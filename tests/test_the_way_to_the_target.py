"""Proxies, Unix sockets, source addresses, families of addresses and TLS: looked at beforehand, gone during the run."""

import base64
import json
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from tests.told import told_by
from tests.ways import Seen, serving

from surgeline.cli.ways import Room, command_of, shortage
from surgeline.engines import Ending
from surgeline.engines.native import available
from surgeline.samples import Outcome

Run = Callable[..., "subprocess.CompletedProcess[str]"]

pytestmark = pytest.mark.skipif(available() is not None, reason="the native engine is not built")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """`surgeline run` on a plan in a directory of its own, off a terminal."""

    def call(
        plan: str, *arguments: str, limits: tuple[str, ...] = (), **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        if "\n" in plan:
            (tmp_path / "plan.yaml").write_text(plan, encoding="utf-8")
            plan = "plan.yaml"
        return subprocess.run(
            [*limits, sys.executable, "-m", "surgeline", "run", plan, *arguments],
            cwd=tmp_path,
            env={**os.environ, "NO_COLOR": "1", **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=90,
        )

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


def _kept(tmp_path: Path) -> dict[str, Any]:
    """The only run's description."""
    (path,) = (tmp_path / "surgeline-runs").glob("*/run.json")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _errors(tmp_path: Path) -> set[str]:
    (path,) = (tmp_path / "surgeline-runs").glob("*/requests.csv")
    head, *lines = path.read_text(encoding="utf-8").splitlines()
    place = head.split(",").index("error")
    return {line.split(",")[place] for line in lines}


def test_a_unix_socket_is_a_way(run: Run, tmp_path: Path) -> None:
    """From the plan or as curl's option; the host's name need not exist, and nobody is asked for consent."""
    with serving(path=tmp_path / "app.sock") as seen:
        done = run(_plan("http://app.nowhere.test/v1", f"connection: {{unix_socket: {tmp_path}/app.sock}}"))
        assert done.returncode == 0, done.stderr
        assert {line.split()[1] for line in seen.lines} == {"/v1/x"}
        assert {headers["host"] for headers in seen.headers} == {"app.nowhere.test"}
        assert _errors(tmp_path) == {""}
        kept = _kept(tmp_path)
        assert kept["settings"]["authorized"] == "own socket" and kept["environment"]["generator_shares_machine"]
        assert f"over the Unix socket {tmp_path}/app.sock" in done.stderr
        done = run("http://app.nowhere.test/", "--unix-socket", "app.sock", "-u", "1", "-t", "200ms", "--out", "more")
        assert done.returncode == 0, done.stderr


def test_a_socket_nobody_listens_on_is_said_so(run: Run, tmp_path: Path) -> None:
    """One sentence, exit 3: nothing was measured."""
    way = f"connection: {{unix_socket: {tmp_path}/gone.sock}}"
    done = run(_plan("http://app.test", way))
    assert (done.returncode, "There is no Unix socket" in done.stderr) == (3, True), done.stderr
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "gone.sock"))
    listener.close()
    done = run(_plan("http://app.test", way))
    assert (done.returncode, "Nothing is listening on the Unix socket" in done.stderr) == (3, True), done.stderr


def test_a_proxy_is_gone_through_and_its_password_stays_secret(run: Run, tmp_path: Path) -> None:
    """Plain HTTP in absolute form, in the look beforehand as in the run; the environment's own proxies are not used."""
    with serving() as target, serving() as proxy:
        plan = _plan(
            f"http://127.0.0.1:{target.port}",
            f"connection: {{proxy: 'http://me:{{{{env.PW}}}}@127.0.0.1:{proxy.port}'}}",
        )
        done = run(plan, PW="hunter-2222")
        assert done.returncode == 0, done.stderr
        assert {line.split()[1] for line in proxy.lines} == {f"http://127.0.0.1:{target.port}/x"}
        wanted = "Basic " + base64.b64encode(b"me:hunter-2222").decode()
        assert {headers["proxy-authorization"] for headers in proxy.headers} == {wanted}
        assert not target.lines, "this proxy answers itself"
        place = f"127.0.0.1:{proxy.port}"
        option = f"http://me:hunter-2222@{place}"
        done = run(_plan(f"http://127.0.0.1:{target.port}"), "--proxy", option, "--out", "more")
        assert done.returncode == 0 and f"through the proxy {place}" in done.stderr, done.stderr
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
        assert done.returncode == 0 and not proxy.lines and target.lines, done.stderr


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[tuple[Seen, trustme.CA]]:
    """An https server for localhost and 127.0.0.1, its authority in ca.pem."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1", "shop.test").configure_cert(context)
    with serving(context=context) as seen:
        yield seen, authority


def test_https_goes_through_a_tunnel_of_the_proxy(run: Run, shop: tuple[Seen, trustme.CA], tmp_path: Path) -> None:
    """Asked with CONNECT by the look and by the engine; a proxy that wants a password is said to, with exit 3."""
    target = f"https://127.0.0.1:{shop[0].port}"
    wanted = "Basic " + base64.b64encode(b"me:pass").decode()
    with serving(wanted=wanted) as proxy:
        done = run(
            _plan(target, "connection: {proxy: '{{env.P}}'}", "tls: {ca: ca.pem}"),
            P=f"http://me:pass@127.0.0.1:{proxy.port}",
        )
        assert done.returncode == 0 and _errors(tmp_path) == {""}, done.stderr
        assert {line.rsplit(" ", 1)[0] for line in proxy.lines} == {f"CONNECT 127.0.0.1:{shop[0].port}"}
        assert shop[0].lines
        way = f"connection: {{proxy: http://127.0.0.1:{proxy.port}}}"
        done = run(_plan(target, way, "tls: {ca: ca.pem}"))
        assert done.returncode == 3 and "it answers 407" in done.stderr, done.stderr
        done = run(_plan(target, way, "tls: {ca: ca.pem}"), "--no-preflight", "--out", "more")
        document = json.loads(next((tmp_path / "more").glob("*/result.json")).read_text(encoding="utf-8"))
        assert "proxy_refused" in json.dumps(document) and "answered 407 to CONNECT" in json.dumps(document)
    done = run(_plan(target, way, "tls: {ca: ca.pem}"))
    assert done.returncode == 3 and "proxy 127.0.0.1" in done.stderr and "cannot be reached" in done.stderr


def test_a_foreign_proxy_needs_consent_as_a_target_does(run: Run) -> None:
    """And where only the proxy knows the target's address, nobody can tell whose it is."""
    done = run(_plan("http://127.0.0.1:1", "connection: {proxy: http://203.0.113.7:3128}"))
    assert done.returncode == 2 and "the proxy 203.0.113.7:3128" in done.stderr and "--authorized" in done.stderr
    done = run(_plan("http://shop.invalid", "connection: {proxy: http://127.0.0.1:1}"))
    assert done.returncode == 2 and "whose address only the proxy knows" in done.stderr


TROUBLES: list[tuple[str, tuple[str, ...], str]] = [
    ("unknown authority", (), "nobody who is trusted has signed its certificate"),
    ("wrong name", ("tls: {ca: ca.pem, server_name: other.test}",), "its certificate is for another name"),
    ("a version it does not speak", ("tls: {ca: ca.pem, versions: [1.2]}",), "no version of TLS that is allowed here"),
    ("no client certificate", ("tls: {ca: ca.pem}",), "client certificate"),
]


@pytest.mark.parametrize(("name", "more", "said"), TROUBLES, ids=lambda value: value if isinstance(value, str) else "")
def test_what_tls_lacks_is_said_before_the_load(
    run: Run, tmp_path: Path, name: str, more: tuple[str, ...], said: str
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
    assert done.returncode == 3 and said in done.stderr, done.stderr
    assert not seen.lines and "Traceback" not in done.stderr


def test_a_plan_brings_its_authority_certificate_and_key(run: Run, tmp_path: Path) -> None:
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
        assert done.returncode == 0 and _errors(tmp_path) == {""}, done.stderr
        plan = _plan(target, "tls: {server_name: shop.test}")
        done = run(
            *(plan, "--cacert", "ca.pem", "--cert", "keys/client.pem", "--key", f"{tmp_path}/keys/client.key"),
            *("--out", "more"),
        )
        assert done.returncode == 0, done.stderr
    key = mine.private_key_pem.bytes().splitlines()[1]
    for path in (*(tmp_path / "surgeline-runs").rglob("*"), *(tmp_path / "more").rglob("*")):
        assert not path.is_file() or key not in path.read_bytes(), path


def test_files_of_tls_lie_beside_the_plan_and_are_pem(run: Run, tmp_path: Path) -> None:
    """Each bad one is a sentence that names the key."""
    (tmp_path / "der.pem").write_bytes(b"\x30\x82\x01\x00")
    (tmp_path / "cut.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    (tmp_path / "link.pem").symlink_to("/etc/hostname")
    for tls, said in (
        ("{ca: gone.pem}", "tls.ca: there is no file gone.pem beside the plan"),
        ("{ca: der.pem}", "tls.ca: der.pem is not in PEM form"),
        ("{ca: link.pem}", "tls.ca: link.pem leads out of the plan's folder"),
    ):
        done = run(_plan("https://127.0.0.1:1", f"tls: {tls}"))
        assert done.returncode == 2 and said in done.stderr, done.stderr
    with serving() as seen:
        done = run(_plan(f"https://127.0.0.1:{seen.port}", "tls: {ca: cut.pem}"))
        assert done.returncode == 3 and "The files that `tls` names cannot be used" in done.stderr, done.stderr
        done = run(f"https://127.0.0.1:{seen.port}", "--cacert", "nowhere.pem")
        assert done.returncode == 2 and "tls.ca: nowhere.pem cannot be read" in done.stderr, done.stderr


@pytest.mark.parametrize("as_plan", [True, False], ids=["plan", "URL"])
def test_http_and_https_are_told_apart(run: Run, shop: tuple[Seen, trustme.CA], as_plan: bool) -> None:
    """Either one written for the other is one sentence that has the right one, and exit 3."""
    with serving() as plain:
        target = f"https://127.0.0.1:{plain.port}"
        done = run(_plan(target) if as_plan else target)
        assert done.returncode == 3 and "does not speak TLS" in done.stderr, done.stderr
        assert f"write http://127.0.0.1:{plain.port}" in done.stderr and "SSL" not in done.stderr
    target = f"http://127.0.0.1:{shop[0].port}"
    done = run(_plan(target) if as_plan else target)
    assert done.returncode == 3 and "speaks TLS, not plain HTTP" in done.stderr, done.stderr
    assert f"Write https://127.0.0.1:{shop[0].port}" in done.stderr


def test_ipv6_works_from_the_url_to_the_report(run: Run, tmp_path: Path) -> None:
    """Brackets where a host and a port stand together; loopback needs no consent; whoever listens is found."""
    try:
        serving_six = serving("::1")
        seen = serving_six.__enter__()
    except OSError as error:
        pytest.skip(f"this machine has no ::1: {error}")
    try:
        target = f"http://[::1]:{seen.port}"
        done = run(f"{target}/", "-u", "2", "-t", "300ms")
        assert done.returncode == 0, done.stderr
        assert {headers["host"] for headers in seen.headers} == {f"[::1]:{seen.port}"}
        kept = _kept(tmp_path)
        assert kept["settings"]["addresses"] == ["::1"] and kept["settings"]["authorized"] == "own address"
        assert f"whoever listens on port {seen.port}" in done.stderr
        (row, *_) = (next((tmp_path / "surgeline-runs").glob("*/requests.csv")).read_text().splitlines())[1:]
        assert f"{target}/" in row
        done = run(_plan(target, "connection: {ip: 6, source_addresses: '::1'}"), "--out", "more")
        assert done.returncode == 0, done.stderr
        done = run(_plan(target), "--engine", "locust", "--out", "third")
        assert done.returncode == 0, done.stderr
        done = run(_plan(target, "connection: {ip: 4}"))
        assert done.returncode == 3 and "has no IPv4 address" in done.stderr, done.stderr
    finally:
        serving_six.__exit__(None, None, None)


def test_a_name_is_asked_for_one_family_only(run: Run) -> None:
    """localhost is 127.0.0.1 and often ::1; -4 and -6 say which."""
    with serving() as seen:
        done = run(f"http://localhost:{seen.port}/", "-4", "-u", "1", "-t", "200ms")
        assert done.returncode == 0 and "IPv4 only" in done.stderr, done.stderr


def test_connections_begin_from_the_sources(run: Run, tmp_path: Path) -> None:
    """Each in turn, a range written out; an address of somebody else's is refused before anything is sent."""
    with serving() as seen:
        target = f"http://127.0.0.1:{seen.port}"
        done = run(_plan(target, "connection: {source_addresses: 127.0.0.2..127.0.0.4, keep_alive: false}"))
        assert done.returncode == 0 and _errors(tmp_path) == {""}, done.stderr
        assert {peer[0] for peer in seen.peers[1:]} >= {"127.0.0.2", "127.0.0.3", "127.0.0.4"}
        assert "from 3 source addresses, a new connection for each request" in done.stderr
        during = [headers for headers in seen.headers if "x-surgeline-run" in headers]
        assert {headers["connection"] for headers in during} == {"close"}
        done = run(_plan(target, "connection: {source_addresses: 192.0.2.9}"))
        assert done.returncode == 3 and "not an address of this machine" in done.stderr, done.stderr
        done = run(_plan(target, "connection: {source_addresses: 192.0.2.9}"), "--no-preflight")
        assert "connections cannot begin from 192.0.2.9" in done.stderr and done.returncode != 0, done.stderr


def test_locust_says_what_it_leaves_to_the_native_engine(run: Run) -> None:
    """By its key, before anything is sent."""
    for more in ("connection: {keep_alive: false}", "tls: {versions: [1.3]}"):
        done = run(_plan("http://127.0.0.1:1", more), "--engine", "locust", "--no-preflight")
        key = more.replace(": {", ".").split(":")[0]
        assert done.returncode == 2 and f"`{key}` is done by the native engine only" in done.stderr, done.stderr


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


def test_more_users_than_descriptors_are_refused_with_the_arithmetic(run: Run, tmp_path: Path) -> None:
    """`--anyway` starts all the same: who finds no descriptor is not sent, and never an error of the target's."""
    limits = ("prlimit", "--nofile=300:300")
    try:
        subprocess.run([*limits, "true"], check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("prlimit is not to be had here")
    with serving() as seen:
        plan = _plan(f"http://127.0.0.1:{seen.port}", load="{users: 400, for: 1s}")
        done = run(plan, limits=limits)
        assert done.returncode == 2 and "of 300 open files, 200 are for itself" in done.stderr, done.stderr
        assert not any("x-surgeline-run" in headers for headers in seen.headers), "there was no load"
        done = run(plan, "--anyway", limits=limits)
        assert done.returncode == 0, done.stderr
    errors = _errors(tmp_path)
    assert "client_fds" in errors and errors <= {"", "client_fds"}, errors
    (result,) = (tmp_path / "surgeline-runs").glob("*/result.json")
    document = json.loads(result.read_text(encoding="utf-8"))
    assert document["verdict"]["validity"] != "valid", "the generator could not send what was due"


EXHAUST = """
import json, resource, sys, time
from pathlib import Path
from surgeline.engines import Settings
from surgeline.engines.native import NativeEngine
from surgeline.plan.text import parse_plan
from surgeline.store.journal import Segment
plan = parse_plan(sys.argv[1], "plan.yaml")
sink = Segment(Path("journal"))
NativeEngine()  # what has to be imported is imported while there are descriptors
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
    assert told.due == len(told.rows) and told.sent == told.outcomes[Outcome.OK]


NAMESPACE = """
import fcntl, os, socket, struct, subprocess, sys
sys.path.insert(0, {tests!r})
with socket.socket() as made:
    fcntl.ioctl(made, 0x8914, struct.pack("16sh14s", b"lo", 0x49, b""))
with open("/proc/sys/net/ipv4/ip_local_port_range", "w") as limits:
    limits.write("40000 40099")
from tests.ways import serving
with serving() as seen:
    with open("plan.yaml", encoding="utf-8") as plan:
        text = plan.read().replace("PORT", str(seen.port))
    with open("plan.yaml", "w", encoding="utf-8") as plan:
        plan.write(text)
    done = subprocess.run([sys.executable, "-m", "surgeline", "run", "plan.yaml", *sys.argv[1:]])
sys.exit(done.returncode)
"""


def _in_a_namespace(tmp_path: Path, plan: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """`surgeline run` and its target in a network of their own with 100 ports."""
    (tmp_path / "plan.yaml").write_text(plan, encoding="utf-8")
    (tmp_path / "inside.py").write_text(NAMESPACE.format(tests=str(Path(__file__).parent.parent)), encoding="utf-8")
    try:
        subprocess.run(["unshare", "-n", "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a network namespace of one's own is not to be had here")
    return subprocess.run(
        ["unshare", "-n", sys.executable, "inside.py", *arguments],
        cwd=tmp_path,
        env={**os.environ, "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
    )


def test_ports_that_run_out_are_nobodys_error_but_ours(tmp_path: Path) -> None:
    """Said beforehand, and with `--anyway` each request without a port is one that was not sent; sources help."""
    users = "{users: 150, for: 1s}"
    done = _in_a_namespace(tmp_path, _plan("http://127.0.0.1:PORT", load=users))
    assert done.returncode == 2, done.stderr
    assert "150 connections at once need more ports than there are: 100 for each pair" in done.stderr, done.stderr
    done = _in_a_namespace(tmp_path, _plan("http://127.0.0.1:PORT", load=users), "--anyway", "--no-preflight")
    assert done.returncode == 0, done.stderr
    errors = _errors(tmp_path)
    assert "client_ports" in errors and errors <= {"", "client_ports"}, errors
    more = "connection: {source_addresses: 127.0.0.2..127.0.0.3}"
    done = _in_a_namespace(
        tmp_path, _plan("http://127.0.0.1:PORT", more, load=users), "--no-preflight", "--out", "more"
    )
    assert done.returncode == 0, done.stderr
    rows = next((tmp_path / "more").glob("*/requests.csv")).read_text(encoding="utf-8")
    assert "client_ports" not in rows, "two sources have 200 ports"


def test_a_command_line_is_kept_without_a_password() -> None:
    """However the proxy's URL is written."""
    for written in ("http://me:pw@h:1", "me:pw@h:1", "--proxy=http://me:pw@h:1"):
        assert "pw" not in " ".join(command_of(["surgeline", "run", "--proxy", written]))
    assert command_of(["run", "http://h:1/a@b", "--slo", "p95 < 1s"]) == ("run", "http://h:1/a@b", "--slo", "p95 < 1s")
