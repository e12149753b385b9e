"""A closer look at a run: heatmap, spectrum, phases, whole exchanges and transactions, from rows to the page."""

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from jsonschema import Draft202012Validator

import report_examples as examples
from scripted_runs import MS, S, closed_plan, fast, open_plan, run_json, summary_from, summary_of
from surgeline.analysis import details, shape
from surgeline.analysis.pooled import Columns
from surgeline.analysis.summary import summarise
from surgeline.cli import Refused
from surgeline.cli.search import searched
from surgeline.engines import scripted
from surgeline.findings import judge
from surgeline.plan.check import faults
from surgeline.report import cells, closeup, distributions, document, html, page, tables, terminal
from surgeline.report.schema import SCHEMA
from surgeline.samples import Histogram, Outcome, Window


def test_every_right_answer_is_in_one_cell_and_every_wrong_one_in_the_strip():
    """The cells of the heatmap count the rows: by second, by factor of 1.47, none twice, failures in no cell."""
    plan = closed_plan([{"users": 4, "for": "12s"}], paths=("/a", "/b"), think_time="5ms")
    recording = scripted.play(plan, scripted.failing_share(fast(), 0.05, error="connect_reset"))
    summary = summary_from(recording, run_json(plan))
    for figures in (summary.total, *summary.endpoints):
        rows = [row for row in recording.rows() if figures.name in ("all endpoints", row["endpoint"])]
        heat = figures.heat
        assert heat is not None and heat.width_s == 1
        truth: Counter[tuple[int, int]] = Counter()
        for row in rows:
            if row["outcome"] == Outcome.OK:
                took = row["end_ns"] - row["intended_ns"]
                truth[int(np.floor(np.log10(took) * shape.PER_DECADE)), row["intended_ns"] // S] += 1
        found = Counter(
            {
                (heat.lowest + r, heat.begin_s + c): count
                for r, line in enumerate(heat.counts)
                for c, count in enumerate(line)
                if count
            }
        )
        assert found.total() == truth.total()
        # A bucket at the edge of a row may lie on its other side: a thousandth of them.
        assert (found - truth).total() <= 0.02 * truth.total()
        wrong = Counter(row["intended_ns"] // S for row in rows if row["outcome"] == Outcome.ERROR)
        assert {second: count for second, count in enumerate(heat.bad) if count} == dict(wrong)


def test_a_long_run_has_no_more_columns_than_fit():
    """An hour is at most 120 columns, and still holds every request."""
    parts = [(second, _histogram([2 * MS] * 3)) for second in range(3600)]
    heat = shape.heat(Columns.of(0, parts), {3599: 7}, 0, 3600, 120)
    assert heat is not None and heat.columns <= 120 and heat.width_s == 30
    assert sum(map(sum, heat.counts)) == 10_800 and heat.bad[-1] == 7


def _histogram(values):
    made = Histogram()
    for value in values:
        made.record(value)
    return made


def test_the_spectrum_is_the_sorted_list():
    """Each point is the value at its rank; the named percentiles are among them; the last leaves one request beyond."""
    values = sorted((np.random.default_rng(3).lognormal(16, 1, 5000)).astype(int).tolist())
    found = shape.spectrum(_histogram(values), _histogram([value // 2 for value in values]))
    assert found is not None
    for q, response, service in zip(found.quantiles, found.response_ns, found.service_ns, strict=True):
        rank = max(int(np.ceil(q * 5000 - 1e-6)), 1) - 1
        assert response == pytest.approx(values[rank], rel=1 / 512)
        assert service == pytest.approx(values[rank] // 2, rel=1 / 512)
    assert {0.5, 0.9, 0.95, 0.99, 0.999} <= {round(q, 9) for q in found.quantiles}
    assert 5000 * (1 - found.quantiles[-1]) >= 1
    # p99 needs 368 independent requests, p99.9 3,688, p99.95 7,376.
    assert found.sure_to is not None and 0.999 <= found.sure_to < 0.9995


def test_few_requests_carry_no_percentile_of_the_spectrum():
    """Of five requests not even the median is sure, and the whole line is dotted."""
    found = shape.spectrum(_histogram([MS] * 5), Histogram())
    assert found is not None and found.sure_to is None
    made = document.result_document(examples.summary_of(examples.rows((1,), 1)[:5], (1,), 1), [])
    plot = distributions.spectrum_plot(made)
    assert plot is None or "Too few answers" in plot.note


def test_phases_add_up_to_the_mean_response_time():
    """Waiting to be sent and the six phases of service time are together the mean of what was answered right."""
    columns = {
        "endpoint": np.array(["a", "a", "b", "a"], object),
        "stage": np.array([0, 1, 0, 0]),
        "status": np.array([200, 200, 200, 500]),
        "outcome": np.array([Outcome.OK, Outcome.OK, Outcome.OK, Outcome.FAILURE]),
        "error": np.array(["", "", "", "status 500"], object),
        "intended_ns": np.array([0, 0, 0, 0]),
        "start_ns": np.array([5, 0, 0, 0]),
        "end_ns": np.array([105, 40, 30, 9]),
        "dns_ns": np.array([1, -1, -1, -1]),
        "connect_ns": np.array([9, -1, -1, -1]),
        "tls_ns": np.array([10, -1, -1, -1]),
        "send_ns": np.array([1, 1, 1, 1]),
        "wait_ns": np.array([70, 30, 20, 5]),
        "receive_ns": np.array([9, 9, 9, 3]),
    }
    found = details.look([columns]).parts
    assert found["a", 0] == shape.Parts(1, 1, (5, 1, 9, 10, 1, 70, 9))
    assert found["a", 1].sums_ns == (0, 0, 0, 0, 1, 30, 9) and found["a", 1].fresh == 0
    assert found["b", 0].mean_ns("wait") == 20
    both = found["a", 0] + found["a", 1]
    assert sum(both.sums_ns) == 105 + 40 and both.mean_ns("wait") == 50


def test_an_engine_that_knows_no_phases_gets_no_bar():
    """Where no row has a wait the document says null, and the page has no plot of phases."""
    summary = examples.shop()
    bare = replace(
        summary,
        total=replace(summary.total, parts=None),
        endpoints=tuple(replace(item, parts=None) for item in summary.endpoints),
        stages=tuple(replace(stage, total=replace(stage.total, parts=None)) for stage in summary.stages),
    )
    made = document.result_document(bare, [])
    assert made["totals"]["phases"] is None and distributions.phases_plot(made) is None
    assert "Where the time goes" not in html.render(made)
    assert "Where the time goes" in html.render(document.result_document(summary, []))


def test_each_endpoint_has_a_section_with_its_numbers_findings_and_examples():
    """Nine endpoints, nine sections, in the order of the table; what is said of one stands with it."""
    made = document.result_document(examples.shop(), examples.FINDINGS)
    markup = html.render(made)
    sections = re.findall(r'<article class="each" id="(e\d+)">\s*<h3>([^<]*?) <', markup)
    assert [name for _, name in sections] == [item["name"] for item in made["endpoints"]]
    own = re.search(r'<article class="each" id="e\d+">\s*<h3>POST /checkout.*?</article>', markup, re.DOTALL)
    assert own is not None
    assert "is slower than its kind" in own[0] and "out of stock" in own[0] and own[0].count("<svg") == 4
    for anchor, _ in sections:
        assert f'href="#{anchor}"' in markup


def test_an_example_tells_no_secret_and_no_more_than_it_must():
    """Of a right answer no body, of a failure its beginning; tokens, keys and cards are hidden in both."""
    made = document.result_document(examples.shop(), [])
    by_name = {item["name"]: item["examples"] for item in made["endpoints"]}
    slowest, failed = by_name["POST /checkout"]
    assert (slowest["why"], slowest["body"], failed["why"]) == ("slowest", None, "failed")
    assert failed["body"] == '{"error": "out of stock", "session_token": "***", "card": "***"}'
    assert slowest["url"].endswith("?api_key=***")
    assert [name for name, _ in failed["headers"]] == ["Content-Type", "Server-Timing"]
    whole = document.dump(made) + html.render(made)
    assert not [secret for secret in ("t0p-s3cret", "c4rd-no", "k3y-s3cret") if secret in whole]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("password=hunter2&user=a", "password=***&user=a"),
        ('{"access_token":"a.b","n":1}', '{"access_token":"***","n":1}'),
        ("Authorization: Bearer abcdefghijkl", "Authorization: ***"),
        ("got eyJhbGciOiJIUzI1NiJ9.e30.x", "got ***"),
        ('{"sessionId": "cut off in the mid', '{"sessionId": "***"'),
        ("nothing to hide: 42", "nothing to hide: 42"),
    ],
)
def test_values_that_call_themselves_secret_are_hidden(text, left):
    """By the name before them, or by a form that tokens have."""
    assert closeup.without_secrets(text) == left


def test_the_example_of_an_error_went_wrong_in_the_same_way():
    """A status needs that status; a check needs its own words; what was not kept has none."""
    kept = [
        {"endpoint": "a", "request": {}, "answer": {"status": 503}, "error": "status 503"},
        {"endpoint": "a", "request": {}, "answer": {"status": 200}, "error": "check body contains sold"},
    ]

    def group(outcome, kind, status):
        return replace(examples.shop().errors[0], outcome=outcome, kind=kind, status=status)

    assert closeup.error_example(group(Outcome.FAILURE, "status 500", 500), kept) is None
    assert closeup.error_example(group(Outcome.FAILURE, "status 503", 503), kept)["status"] == 503
    assert closeup.error_example(group(Outcome.FAILURE, "check body contains sold", 200), kept)["status"] == 200
    assert closeup.error_example(group(Outcome.FAILURE, "check size", 200), kept) is None
    assert closeup.error_example(group(Outcome.TIMEOUT, "total_timeout", 0), kept) is None


def test_a_hundred_endpoints_stay_below_two_megabytes():
    """A section and three drawings for each of a hundred endpoints: at most 2 MB of page, and of document."""
    made = document.result_document(examples.wide_shop(100), examples.FINDINGS)
    markup = html.render(made)
    assert markup.count('<article class="each"') == 100
    assert len(markup.encode()) < 2_000_000
    assert len(document.dump(made)) < 2_000_000


def test_where_stages_are_too_short_for_intervals_it_says_so_in_place():
    """Eight seconds carry no interval: the plot's note and the table's give the reason, and a dash has it too."""
    plan = closed_plan([{"users": n, "for": "8s"} for n in (2, 4, 8)], think_time="5ms")
    made = document.result_document(summary_of(plan, fast()), [])
    markup = " ".join(html.render(made).replace("\xa0", " ").split())
    why = "8 s with requests, an interval needs 10"
    assert f"no 95 % intervals: {why}" in markup
    assert "“8 s only”: an interval takes 10" in markup
    assert markup.count("[8 s only]</small>") >= 3 * 2
    assert f'title="{why}">[8 s only]</small>' in markup
    longer = closed_plan([{"users": n, "for": "20s"} for n in (2, 4, 8)], think_time="5ms")
    said = html.render(document.result_document(summary_of(longer, fast()), [])).replace("\xa0", " ")
    assert "bars are 95 % intervals." in said and "an interval needs" not in said


# --- transactions ----------------------------------------------------------------------------------------------------


def _with_checkouts(slo, slow_ns=900 * MS):
    """A shop in which a checkout of two steps takes as long as it is told, twenty times a second for 20 s."""
    plan = open_plan((40,), "20s", slo=[slo] if slo else [])
    recording = scripted.play(plan, fast())
    windows = []
    for second in range(20):
        for outcome, count in ((Outcome.OK, 18), (Outcome.FAILURE, 2 if second % 5 == 4 else 0)):
            if count:
                times = _histogram([slow_ns + 10 * MS * k for k in range(count)])
                windows.append(Window(second, 0, "checkout", outcome, count, 0, 0, times, times))
    measured = replace(recording.measurement(), transactions=tuple(windows))
    return summarise(run_json(plan, settings={"workers": 1, "slo": [slo] if slo else []}), measured)


def test_a_transaction_is_on_every_page_and_in_no_count():
    """Its figures stand beside the endpoints'; the books know of requests only."""
    with_them, without = _with_checkouts(""), summary_of(open_plan((40,), "20s"), fast(), rows=False)
    assert with_them.total.tally == without.total.tally and with_them.endpoints == without.endpoints
    (figures,) = with_them.transactions
    assert (figures.name, figures.tally.due, figures.tally.failure) == ("checkout", 368, 8)
    assert figures.response.quantiles[0.5].value == pytest.approx(980 * MS, rel=0.02)
    made = document.result_document(with_them, [])
    Draft202012Validator(SCHEMA).validate(made)
    assert "Transactions, each timed as a whole" in html.render(made)
    assert re.search(r"\| checkout \| 368 \| 9\d\d ms", page.render(made))
    assert re.search(r"checkout +368 +9\d\d ms", terminal.render(made))
    for render in (html.render, page.render, terminal.render):
        assert "ransaction" not in render(document.result_document(without, []))


@pytest.mark.parametrize(
    ("slo", "word"),
    [("checkout: p95 < 2s", "met"), ("checkout: p95 < 500ms", "missed"), ("checkout: rate > 5/s", "met")],
)
def test_an_objective_may_name_a_transaction(slo, word):
    """It is judged by the transaction's own windows, in the verdict, the findings and the table alike."""
    summary = _with_checkouts(slo)
    (result,) = summary.objectives
    assert result.verdict == word
    made = document.result_document(summary, judge(summary))
    assert made["transactions"][0]["slo"] == word and made["verdict"]["slo"] == word
    assert all(item["slo"] is None for item in made["endpoints"])
    if "p95" in slo:
        assert "368 transactions" in result.reason
    if word == "missed":
        assert made["verdict"]["sentence"].startswith("checkout misses p95 < 500 ms")
        said = made["findings"]["failed"]["items"][0]["sentence"]
        assert "368 transactions" in said and "checkout: p95 < 500 ms was missed" in said


def test_errors_of_a_transaction_are_its_own():
    """8 of 368 went wrong: more than one in a thousand, though no request did."""
    (result,) = _with_checkouts("checkout: errors < 0.1%").objectives
    assert result.verdict == "missed" and "8 of 368 transactions went wrong" in result.reason


def _plan(slo, names=("checkout", "checkout")):
    steps = [{"get": path, "transaction": name} for path, name in zip(("/cart", "/pay"), names, strict=True)]
    return closed_plan(scenarios={"a": {"steps": steps}}, slo=[slo])


def test_a_plan_knows_its_transactions_by_name():
    """An objective may name one; a slip of the pen is named; a name that is both is refused."""
    assert faults(_plan("checkout: p95 < 2s")) == []
    (fault,) = faults(_plan("chekout: p95 < 2s"))
    assert "no endpoint or transaction" in str(fault) and "checkout" in str(fault)
    (fault,) = faults(_plan("GET /cart: p95 < 2s", ("GET /cart", "GET /cart")))
    assert "is an endpoint and a transaction" in str(fault)


def test_a_search_is_not_steered_by_a_transaction():
    """Searching for the highest rate within an objective that no single request decides is refused, with the reason."""
    with pytest.raises(Refused, match="names a transaction, and a search is steered by single requests"):
        searched(_plan("checkout: p95 < 2s"))
    assert [objective.text for objective in searched(_plan("GET /cart: p95 < 2s"))] == ["GET /cart: p95 < 2s"]
    with pytest.raises(Refused, match="search with errors < 1%, and judge the seconds with surgeline run"):
        searched(_plan("seconds(errors < 1%) > 99%"))


def test_endpoints_csv_speaks_of_endpoints_only():
    """A table whose rows can be added up has no row that counts its neighbours again."""
    lines = list(tables.endpoints_csv(_with_checkouts("")))
    assert not any(line.startswith("checkout") for line in lines)


def test_a_cell_of_no_interval_says_why():
    """An estimate with a value and no ends gives its reason; one without a value gives its own elsewhere."""
    bare = {"value": 5.0, "low": None, "high": None, "why_not": "7 s with requests, an interval needs 10"}
    assert cells.no_interval(bare) == bare["why_not"]
    assert cells.no_interval({**bare, "low": 1.0}) == "" == cells.no_interval({**bare, "value": None})


def test_what_every_request_has_to_hold_is_no_limit_of_a_transaction():
    """Its plots show the limits that name it, and no other."""
    summary = _with_checkouts("checkout: p95 < 2s")
    made = document.result_document(summary, [])
    made["objectives"].append({**made["objectives"][0], "endpoint": None, "limit": 950 * MS, "text": "p95 < 950 ms"})
    part = made["transactions"][0]
    assert distributions.near(made, part, 0, "t").spectrum.count('class="limit"') <= 1
    with_all = distributions.near(made, {**part, "name": "GET /x"}, 0)
    assert with_all.spectrum.count('class="limit"') == 1


def test_without_objectives_nothing_is_held():
    """No column of dashes: `holds up to` stands where there is an objective."""
    for render in (page.render, terminal.render, html.render):
        assert "holds up to" not in render(document.result_document(examples.shop(""), []))
        assert "holds up to" in render(document.result_document(examples.shop(), []))


def test_a_long_run_is_taken_apart_by_a_sample_of_it(monkeypatch):
    """Beyond the limit one row in eight stands for eight: the count and the means are those of all."""
    monkeypatch.setattr(details, "ALL_PHASES", 1000)
    rows = 1000
    wait = np.random.default_rng(5).integers(1 * MS, 3 * MS, 5 * rows)
    batches = []
    for number in range(5):
        here = wait[number * rows : (number + 1) * rows]
        zero = np.zeros(rows, np.int64)
        batches.append(
            {
                **dict.fromkeys(("endpoint", "error"), np.array(["a"] * rows, object)),
                **dict.fromkeys(("stage", "intended_ns", "start_ns", "send_ns", "receive_ns"), zero),
                **dict.fromkeys(("dns_ns", "connect_ns", "tls_ns"), zero - 1),
                "status": zero + 200,
                "outcome": zero,
                "end_ns": here,
                "wait_ns": here,
            }
        )
    found = details.look(batches).parts["a", 0]
    assert found.count == 5 * rows
    assert found.mean_ns("wait") == pytest.approx(float(wait.mean()), rel=0.05)


def test_phases_of_many_stages_are_chosen_and_counted():
    """Of sixty loads 24 have a bar, the first and the last among them, and the note says how many there are."""
    made = document.result_document(examples.shop(), [])
    stage = made["stages"][0]
    many = [{**stage, "index": k, "label": f"{k} users", "start": float(k), "end": float(k)} for k in range(60)]
    plot = distributions.phases_plot({**made, "stages": many})
    assert plot is not None and "24 of 60 stages" in plot.note
    assert ">0 users<" in plot.wide and ">59 users<" in plot.wide
