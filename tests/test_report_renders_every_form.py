"""From one summary to every form a run is shown in."""

import report_examples as examples
from surgeline.report import document, html, page, tables, terminal


def test_one_summary_becomes_a_document_and_every_form_of_it():
    """Markdown, HTML, terminal and CSV come out of the same document, and each begins with its verdict."""
    summary = examples.shop()
    made = document.result_document(summary, examples.FINDINGS)
    sentence = made["verdict"]["sentence"]
    assert sentence.split(";")[0] in page.render(made).splitlines()[0]
    assert "Holds" in html.render(made)
    assert "MISSED" in terminal.render(made)
    assert len(list(tables.timeline_csv(summary))) == 57
