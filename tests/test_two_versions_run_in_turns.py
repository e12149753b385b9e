"""`surgeline ab` and `run --repeat` against real servers on this machine: started, warmed up, run in turns, ended."""

import json
import socket
import sys
from pathlib import Path

import pytest

from distributed import free_port
from stored_series import surgeline
from surgeline.store.index import Index
from surgeline.store.rundir import Run

pytestmark = pytest.mark.slow

SERVER = """
import asyncio, sys
port, ms, log = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
open(log, "a").write("start %s\\n" % ms)
async def talk(reader, writer):
    try:
        while await reader.readuntil(b"\\r\\n\\r\\n"):
            await asyncio.sleep(ms / 1000)
            writer.write(b"HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\n\\r\\nok")
            await writer.drain()
    except (asyncio.IncompleteReadError, OSError):
        writer.close()
async def main():
    server = await asyncio.start_server(talk, "127.0.0.1", port)
    await server.serve_forever()
asyncio.run(main())
"""


@pytest.fixture()
def port() -> int:
    """One that is free now."""
    return int(free_port())


def _plan(tmp_path: Path, port: int) -> Path:
    plan = tmp_path / "plan.yaml"
    plan.write_text(
        f"target: http://127.0.0.1:{port}\nscenarios: {{a: {{steps: [{{get: /x}}]}}}}\n"
        "workload: {model: open, stages: [{rate: 80/s, for: 1s}]}\n"
    )
    (tmp_path / "server.py").write_text(SERVER)
    return plan


def _free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_commands_start_each_side_and_are_ended_after_its_run(
    tmp_path: Path, port: int, capsys: pytest.CaptureFixture[str]
):
    """Two blocks: four runs, each on a server of its own, paired, with the same arrivals; nothing is left running."""
    plan, log = _plan(tmp_path, port), tmp_path / "log"
    command = f"exec {sys.executable} {tmp_path / 'server.py'} {port} {{}} {log}"
    arguments = ["ab", plan, "--a", command.format(5), "--b", command.format(40), "--blocks", 2, "--ui", "none"]
    between = f"echo between >> {log}"
    code, out, err = surgeline(
        capsys, *arguments, "--out", tmp_path / "runs", "--warm-up", "0.3s", "--between", between, "--json"
    )
    assert code == 0, err
    document = json.loads(out)
    assert document["design"] == "paired"
    assert document["comparable"], document["obstacles"]
    row = next(c for c in document["changes"] if c["metric"] == "p50")
    assert row["candidate"]["value"] > 2 * row["base"]["value"]
    told = log.read_text().splitlines()
    assert told.count("between") == 3
    assert (told.count("start 5.0"), told.count("start 40.0")) == (3, 3)  # once to look at it, then once a block
    assert _free(port)
    runs = Index(tmp_path / "runs").resolve("last")
    assert runs[0].meta.series
    sides: dict[int, list[list[int]]] = {}
    for run in Index(tmp_path / "runs").resolve(str(runs[0].meta.series["group"])):
        assert run.meta.series
        due = next(iter(run.rows(["intended_ns"])))["intended_ns"].tolist()
        # An engine that is a process of its own begins a moment later: what is the same are the distances.
        sides.setdefault(run.meta.series["block"], []).append([at_ns - due[0] for at_ns in due])
    assert all(first == second for first, second in sides.values())


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--a", "exit 3", "--b", "true"], 2, "exit code 3"),
        (["--a", "true"], 2, "--b"),
    ],
)
def test_a_side_that_cannot_start_is_a_sentence(
    arguments: list[str], code: int, words: str, tmp_path: Path, port: int, capsys: pytest.CaptureFixture[str]
):
    """What failed, and nothing is measured."""
    plan = _plan(tmp_path, port)
    found, _, err = surgeline(capsys, "ab", plan, *arguments, "--out", tmp_path / "runs")
    assert (found, words in err) == (code, True), err
    assert not (tmp_path / "runs").exists()


def test_a_command_needs_something_to_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Two commands without a subject."""
    code, _, err = surgeline(capsys, "ab", "--a", "true", "--b", "true", "--out", tmp_path)
    assert (code, "say what to run" in err) == (2, True)


def test_repeated_runs_are_one_series_and_one_side(tmp_path: Path, port: int, capsys: pytest.CaptureFixture[str]):
    """Three runs, told apart by their block; `last` is all three; options of a series need one."""
    import subprocess

    plan, log = _plan(tmp_path, port), tmp_path / "log"
    server = subprocess.Popen([sys.executable, str(tmp_path / "server.py"), str(port), "4", str(log)])
    try:
        while _free(port):
            pass
        options = ["--out", tmp_path / "runs", "--ui", "none"]
        code, out, err = surgeline(capsys, "run", plan, "--repeat", 3, "--cool-down", "0s", *options)
        assert code == 0, err
        assert "differs from run to run" in out
        assert surgeline(capsys, "baseline", "save", "main", "--out", tmp_path / "runs")[0] == 0
        (baseline,) = Index(tmp_path / "runs").baselines()
        assert len(baseline.runs) == 3
        blocks = [Run(tmp_path / "runs" / run).meta.series for run in baseline.runs]
        assert [block and block["block"] for block in blocks] == [0, 1, 2]
        code, _, err = surgeline(capsys, "run", plan, "--between", "true", *options)
        assert (code, "--repeat" in err) == (2, True)
    finally:
        server.terminate()
        server.wait()
