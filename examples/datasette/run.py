"""Stress-tests Datasette on a database of 200,000 orders, with one command.

    python examples/datasette/run.py [options of `surgeline run`, for example --engine locust]

Makes a virtual environment of its own with Datasette in it, makes shop.db, starts Datasette on a free loopback port,
runs `surgeline run plan.yaml` against it, and stops it again. What is made once is kept and used the next time.
Standard library only; Surgeline is taken from this interpreter, from the repository's .venv, or from PATH.
"""

import http.client
import importlib.util
import shutil
import socket
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
DATASETTE = "0.65.5"
PLACE = HERE / ".venv"
DATABASE = HERE / "shop.db"
READY_WITHIN_S = 60


class Trouble(Exception):
    """What went wrong, in one sentence."""


def surgeline() -> list[str]:
    """The command that starts Surgeline."""
    if importlib.util.find_spec("surgeline"):
        return [sys.executable, "-m", "surgeline"]
    for name in (HERE.parents[1] / ".venv" / "bin" / "surgeline", shutil.which("surgeline")):
        if name and Path(name).exists():
            return [str(name)]
    raise Trouble("Surgeline is not installed; run `make setup` in the repository, or `pip install surgeline`")


def datasette() -> Path:
    """Datasette's program, in an environment of its own: its requirements are not Surgeline's."""
    program = PLACE / "bin" / "datasette"
    marker = PLACE / f"has-{DATASETTE}"
    if not marker.exists():
        say(f"installing Datasette {DATASETTE} into {shown(PLACE)}, apart from Surgeline")
        venv.create(PLACE, with_pip=True, clear=True)
        install = [str(PLACE / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        if subprocess.run([*install, f"datasette=={DATASETTE}"]).returncode:
            raise Trouble(f"pip could not install datasette=={DATASETTE}; its words are above")
        marker.touch()
    return program


@contextmanager
def served(program: Path) -> Iterator[str]:
    """Datasette over shop.db on a free loopback port; its URL, for as long as the block lasts."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(program), "serve", str(DATABASE), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--setting", "sql_time_limit_ms", "2000"]
    with open(HERE / "datasette.log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            wait_until_ready(process, port)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_until_ready(process: "subprocess.Popen[bytes]", port: int) -> None:
    """Returns when Datasette answers."""
    until = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < until and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/-/versions.json")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.1)
        finally:
            connection.close()
    raise Trouble(f"Datasette did not answer on port {port}; its words are in {shown(HERE / 'datasette.log')}")


def shown(path: Path) -> str:
    """The path from where the user stands, if it is below."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def say(text: str) -> None:
    print(f"datasette example: {text}", file=sys.stderr, flush=True)


def main(arguments: list[str]) -> int:
    command = surgeline()
    program = datasette()
    if not DATABASE.exists():
        say(f"making {shown(DATABASE)}: 20,000 customers, 200,000 orders")
        subprocess.run([sys.executable, str(HERE / "make_db.py"), str(DATABASE)], check=True, stdout=sys.stderr)
    runs = HERE / "surgeline-runs"
    before = set(runs.glob("*/summary.md"))
    with served(program) as url:
        say(f"Datasette {DATASETTE} answers on {url}")
        order = ["run", shown(HERE / "plan.yaml"), "--target", url, "--out", shown(runs), *arguments]
        code = subprocess.run([*command, *order]).returncode
    for page in sorted(set(runs.glob("*/summary.md")) - before):
        say(f"the page is {shown(page)}, the report {shown(page.with_name('report.html'))}")
    # 99 is Surgeline's word for a missed objective: here that is what one came to see.
    return 0 if code == 99 else code


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Trouble as trouble:
        say(str(trouble))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
