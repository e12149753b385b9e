"""Results of other tools become runs that say what such a file cannot carry; what is none of them is refused whole."""

import gzip
import json
from pathlib import Path

import pytest

from surgeline import runner
from surgeline.samples import Outcome
from surgeline.store.elsewhere import import_run, read_elsewhere
from surgeline.store.errors import Damaged, Foreign, NoSuchRun, StoreError
from surgeline.store.rundir import Run

LOCUST_STATS = (
    "Type,Name,Request Count,Failure Count,Median Response Time,Average Response Time,Min Response Time,"
    "Max Response Time,Average Content Size,Requests/s,Failures/s,50%,66%,75%,80%,90%,95%,98%,99%,99.9%,99.99%,100%\r\n"
    "GET,/books,1000,10,20,24.5,3.2,310.7,1200,50,0.5,20,23,26,28,40,60,90,120,280,310,310\r\n"
    "POST,/cart,500,0,30,33.0,9.0,200.0,20,25,0,30,33,36,38,50,70,95,130,190,200,200\r\n"
    ",Aggregated,1500,10,23,27.0,3.2,310.7,800,75,0.5,23,26,30,32,45,65,92,125,280,310,310\r\n"
)
LOCUST_JSON = json.dumps(
    [
        {
            "name": "/books",
            "method": "GET",
            "last_request_timestamp": 1763900012.5,
            "start_time": 1763900002.25,
            "num_requests": 400,
            "num_none_requests": 0,
            "num_failures": 0,
            "total_response_time": 8600.0,
            "max_response_time": 99.5,
            "min_response_time": 9.5,
            "total_content_length": 40000,
            "response_times": {"10": 100, "20": 200, "30": 80, "100": 20},
            "num_reqs_per_sec": {"1763900002": 200, "1763900007": 200},
            "num_fail_per_sec": {},
        }
    ]
)
LOCUST_REQUESTS = "timestamp,request_type,name,response_time_ms,response_length,status_code,exception\n" + "".join(
    f"{1763900000 + i * 0.1:.3f},GET,/books,{10 + i % 7},120,200,\n" for i in range(400)
)
JTL_HEAD = (
    "timeStamp,elapsed,label,responseCode,responseMessage,threadName,dataType,success,failureMessage,bytes,sentBytes,"
    "grpThreads,allThreads,URL,Latency,IdleTime,Connect\n"
)
JTL_ROWS = "".join(
    f"{1763900000000 + i * 20},{10 + i % 9},home,200,OK,T 1-1,text,true,,512,120,1,1,http://h/,8,0,1\n"
    for i in range(400)
) + (
    "1763900008100,12,home,500,Server Error,T 1-1,text,false,boom,512,120,1,1,http://h/,8,0,1\n"
    "1763900008200,9,home,Non HTTP response code: java.net.ConnectException,Non HTTP response message: refused,T,text,"
    "false,,0,0,1,1,http://h/,0,0,9\n"
)
K6_CSV = (
    "metric_name,timestamp,metric_value,check,error,error_code,expected_response,group,method,name,proto,scenario,"
    "service,status,subproto,tls_version,url,extra_tags,metadata\n"
) + "".join(
    f"http_reqs,{1763900000 + i // 50},1,,,,true,,GET,http://h/a,HTTP/1.1,default,,200,,,http://h/a,,\n"
    f"http_req_duration,{1763900000 + i // 50},{12 + i % 5}.25,,,,true,,GET,http://h/a,HTTP/1.1,default,,200,,,http://h/a,,\n"
    for i in range(400)
)
K6_JSON = (
    '{"type":"Metric","data":{"name":"http_req_duration","type":"trend"},"metric":"http_req_duration"}\n'
    + "".join(
        json.dumps(
            {
                "metric": "http_req_duration",
                "type": "Point",
                "data": {
                    "time": f"2026-11-23T06:00:{i // 20:02d}.{(i % 20) * 50:03d}123456+01:00",
                    "value": 12.5 + i % 5,
                    "tags": {
                        "method": "GET",
                        "name": "/a",
                        "status": "200",
                        "url": "http://h/a",
                        "expected_response": "true",
                    },
                },
            }
        )
        + "\n"
        for i in range(400)
    )
)
VEGETA_CSV = (
    "".join(
        f"{1763900000000000000 + i * 10_000_000},200,{5_000_000 + i * 1000},0,20,,b2s=,,{i},GET,http://h/books?page={i},\n"
        for i in range(400)
    )
    + '1763900004000000000,0,30000000000,0,0,"Get ""http://h/"": context deadline exceeded",,,400,GET,http://h/books,\n'
)
VEGETA_JSON = "".join(
    json.dumps(
        {
            "attack": "",
            "seq": i,
            "code": 200,
            "timestamp": f"2026-11-23T06:00:{i // 20:02d}.{(i % 20) * 50:03d}0001Z",
            "latency": 5_000_000 + i,
            "bytes_out": 0,
            "bytes_in": 2,
            "error": "",
            "body": None,
            "method": "GET",
            "url": "http://h/books",
            "headers": None,
        }
    )
    + "\n"
    for i in range(400)
)
OHA_CSV = "request-start,DNS,DNS+dialup,Response-delay,request-duration,bytes,status\n" + "".join(
    f"{i * 0.01},0.0001,0.0002,0.004,0.0{45 + i % 9},13,200\n" for i in range(400)
)
OHA_JSON = json.dumps(
    {
        "summary": {
            "successRate": 1.0,
            "total": 10.0,
            "slowest": 0.2,
            "fastest": 0.001,
            "average": 0.011,
            "totalData": 5200,
        },
        "latencyPercentiles": {"p50": 0.01, "p90": 0.02, "p95": 0.03, "p99": 0.08, "p99.9": 0.15, "p99.99": 0.2},
        "statusCodeDistribution": {"200": 990, "500": 10},
        "errorDistribution": {"connection refused": 5},
    }
)
HEY = "response-time,DNS+dialup,DNS,Request-write,Response-delay,Response-read,status-code,offset\n" + "".join(
    f"0.0{100 + i % 9},0.0010,0.0001,0.0000,0.0090,0.0001,200,{i * 0.02:.4f}\n" for i in range(400)
)

FORMS = {
    "locust_stats.csv": ("locust", LOCUST_STATS, 1500, {"GET /books", "POST /cart"}),
    "locust.json": ("locust", LOCUST_JSON, 400, {"GET /books"}),
    "locust_requests.csv": ("locust", LOCUST_REQUESTS, 400, {"GET /books"}),
    "log.jtl": ("jmeter", JTL_HEAD + JTL_ROWS, 402, {"home"}),
    "bare.jtl": ("jmeter", JTL_ROWS, 402, {"home"}),
    "k6.csv": ("k6", K6_CSV, 400, {"GET http://h/a"}),
    "k6.json": ("k6", K6_JSON, 400, {"GET /a"}),
    "vegeta.csv": ("vegeta", VEGETA_CSV, 401, {"GET /books"}),
    "vegeta.json": ("vegeta", VEGETA_JSON, 400, {"GET /books"}),
    "oha.csv": ("oha", OHA_CSV, 400, {"the request"}),
    "oha.json": ("oha", OHA_JSON, 1005, {"the request"}),
    "hey.csv": ("hey", HEY, 400, {"the request"}),
}


def _import(tmp_path: Path, name: str, text: str) -> Run:
    file = tmp_path / name
    file.write_text(text, "utf-8", newline="")
    return import_run(tmp_path / "runs", file)


@pytest.mark.parametrize("name", FORMS)
def test_every_form_becomes_a_run_with_all_its_requests(tmp_path: Path, name: str):
    """As many requests as the file has, under the endpoints it names, judged like any run, and marked."""
    tool, text, requests, endpoints = FORMS[name]
    run = _import(tmp_path, name, text)
    document = runner.conclude(run)
    assert document["run"]["engine"] == tool
    assert document["totals"]["tally"]["due"] == requests
    assert {endpoint["name"] for endpoint in document["endpoints"]} == endpoints
    assert document["run"]["response_is_service"]
    assert any("due" in clause for clause in run.meta.raw["imported"]["cannot"])
    assert runner.figures(run).unsupported == tuple(run.meta.raw["imported"]["cannot"])


def test_percentiles_of_a_locust_csv_are_those_it_shows(tmp_path: Path):
    """p50, p95 and p99 are the file's own figures, to the precision of a bucket."""
    figures = runner.figures(_closed(_import(tmp_path, "a_stats.csv", LOCUST_STATS)))
    for q, ms in ((0.5, 20), (0.95, 60), (0.99, 120)):
        assert figures.quantile("GET /books", q, figures.usable_stages) == pytest.approx(ms * 1e6, rel=0.002)


def _closed(run: Run) -> Run:
    runner.conclude(run)
    return Run(run.path)


def test_failures_errors_and_timeouts_are_told_apart(tmp_path: Path):
    """A 500 is a failure, a refused connection an error, a deadline a timeout."""
    jtl = runner.conclude(_import(tmp_path, "log.jtl", JTL_HEAD + JTL_ROWS))["totals"]["tally"]
    vegeta = runner.conclude(_import(tmp_path, "v.csv", VEGETA_CSV))["totals"]["tally"]
    assert (jtl["ok"], jtl["failure"], jtl["error"]) == (400, 1, 1)
    assert (vegeta["ok"], vegeta["timeout"]) == (400, 1)


def test_times_are_those_of_the_file(tmp_path: Path):
    """A vegeta line's latency and moment come out to the nanosecond."""
    rows = next(iter(_import(tmp_path, "v.csv", VEGETA_CSV).rows()))
    assert rows["start_ns"][:3].tolist() == [0, 10_000_000, 20_000_000]
    assert (rows["end_ns"] - rows["start_ns"])[:3].tolist() == [5_000_000, 5_001_000, 5_002_000]
    assert set(rows["outcome"].tolist()) == {Outcome.OK, Outcome.TIMEOUT}


def test_a_compressed_file_reads_like_a_plain_one(tmp_path: Path):
    """k6 writes .gz by file name."""
    packed = tmp_path / "k6.csv.gz"
    packed.write_bytes(gzip.compress(K6_CSV.encode()))
    assert runner.conclude(import_run(tmp_path / "runs", packed))["totals"]["tally"]["ok"] == 400


def test_runs_of_one_tool_are_compared_and_of_two_tools_are_not(tmp_path: Path):
    """Unlike sources get no word."""
    from surgeline.analysis.compare import compare_runs

    one, two = (runner.figures(_closed(_import(tmp_path, name, VEGETA_CSV))) for name in ("1.csv", "2.csv"))
    other = runner.figures(_closed(_import(tmp_path, "hey.csv", HEY)))
    assert compare_runs([one], [two]).comparable
    refused = compare_runs([one], [other])
    assert not refused.comparable
    assert {change.word for change in refused.changes} == {None}


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("", Foreign, "empty"),
        ("hello\nworld\n", Foreign, "none of the results"),
        ("<testResults/>", Foreign, "XML"),
        ('{"metrics": {}}', Foreign, "k6's summary"),
        ('{"latencies": {}}', Foreign, "vegeta encode"),
        ('{"a": 1}', Foreign, "no tool"),
        ('{"a": ', Damaged, "not whole JSON"),
        ("[" * 100_000, Damaged, "not whole JSON"),
        (JTL_HEAD, Foreign, "no request"),
        (JTL_HEAD + "1763900000000,abc,home,200,OK,T,text,true,,1,1,1,1,u,1,0,1\n", Damaged, "line 2"),
        (JTL_HEAD + "1763900000000,-5,home,200,OK,T,text,true,,1,1,1,1,u,1,0,1\n", Damaged, "not a time"),
        (JTL_HEAD + "1763900000000,nan,home,200,OK,T,text,true,,1,1,1,1,u,1,0,1\n", Damaged, "not a time"),
        (JTL_HEAD + "1763900000000,5,home,200,OK\n", Damaged, "columns"),
        (JTL_HEAD + "1763900000000,5,home,200,OK,T,text,maybe,,1,1,1,1,u,1,0,1\n", Damaged, "neither true nor false"),
        (VEGETA_CSV + VEGETA_CSV.replace("17639", "17629"), Damaged, "clock went backwards"),
        (K6_JSON + '{"type":"Point","metric":"http_req_duration","data":{}}\n', Damaged, "line 402"),
        (K6_JSON[:-40], Damaged, "line 401"),
        (LOCUST_STATS.replace("1000,10", "1000,2000"), Damaged, "more failures"),
        (LOCUST_JSON.replace('"10": 100', '"10": -100'), Damaged, "add up"),
        ("Timestamp,User Count,Type,Name\n1,2,3,4\n", Foreign, "history"),
        ("\x00\x01\x02\xff" * 500, Foreign, "none of the results"),
    ],
)
def test_what_cannot_be_read_is_refused_whole(tmp_path: Path, text: str, error: type[StoreError], words: str):
    """One sentence, the line where there is one, and no run left behind."""
    with pytest.raises(error, match=words):
        _import(tmp_path, "file", text)
    left = tmp_path / "runs"
    assert not left.exists() or list(left.glob("2*")) == []


def test_a_cut_compressed_file_and_a_missing_one_are_said(tmp_path: Path):
    """No traceback, no run."""
    cut = tmp_path / "cut.gz"
    cut.write_bytes(gzip.compress(K6_CSV.encode())[:-20])
    with pytest.raises(Damaged, match="compression"):
        import_run(tmp_path / "runs", cut)
    with pytest.raises(NoSuchRun):
        read_elsewhere(tmp_path / "nothing")


def test_a_file_without_a_date_is_as_old_as_the_file(tmp_path: Path):
    """hey says how long after its start; the file's own date stands for the start, and that is said."""
    import os

    file = tmp_path / "hey.csv"
    file.write_text(HEY)
    os.utime(file, (1_763_900_000, 1_763_900_000))
    run = import_run(tmp_path / "runs", file)
    assert run.meta.started_at == "2025-11-23T12:13:20Z"
    assert any("date of the file" in clause for clause in run.meta.raw["imported"]["cannot"])
    assert "a load that is not known" in runner.conclude(run)["verdict"]["sentence"]
