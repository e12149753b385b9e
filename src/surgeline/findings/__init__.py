"""What the numbers mean: one judgement per file, each with its evidence, its doubts and what to do next.

A judgement takes a summary and returns the findings that the summary supports; it never looks at how they are shown.
`RULES` lists all of them in the order in which equals are shown, `judge` asks them all.
"""

from collections.abc import Collection

from surgeline.analysis.model import Summary
from surgeline.findings import (
    cache_missing_validators,
    conn_dns_slow,
    conn_dropped,
    conn_keepalive_off,
    conn_syn_retries,
    conn_tls_slow,
    duration_too_short,
    endpoint_dominates,
    endpoint_outlier,
    errors_constant,
    errors_fast_fail,
    errors_none,
    errors_onset,
    errors_rate_limited,
    fairness_instances,
    generator_saturated,
    http_cookies_large,
    http_large_payload,
    http_no_compression,
    http_redirects,
    http_server_timing,
    latency_bimodal,
    latency_drift,
    latency_flat,
    latency_heavy_tail,
    latency_rising,
    memory_leak,
    payload_size_latency,
    recovery_time,
    reference_slow,
    samples_too_few,
    saturation_plateau,
    saturation_retrograde,
    scaling_linear_param,
    script_auth_wall,
    script_hub_delay,
    script_same_data,
    script_third_party,
    script_user_code,
    slo_met,
    slo_missed,
    stall_global,
    stall_periodic,
    steady_none,
    timeouts_cluster,
    urls_cardinality,
    warmup_cold_start,
)
from surgeline.findings.confidence import asked
from surgeline.findings.model import Finding, Rule

__all__ = ["RULES", "cleared", "judge"]

RULES: tuple[Rule, ...] = (
    slo_missed.RULE,
    slo_met.RULE,
    errors_onset.RULE,
    errors_constant.RULE,
    errors_rate_limited.RULE,
    timeouts_cluster.RULE,
    errors_fast_fail.RULE,
    conn_dropped.RULE,
    conn_syn_retries.RULE,
    saturation_plateau.RULE,
    saturation_retrograde.RULE,
    stall_periodic.RULE,
    stall_global.RULE,
    latency_rising.RULE,
    latency_drift.RULE,
    memory_leak.RULE,
    steady_none.RULE,
    endpoint_outlier.RULE,
    endpoint_dominates.RULE,
    http_server_timing.RULE,
    fairness_instances.RULE,
    scaling_linear_param.RULE,
    latency_bimodal.RULE,
    latency_heavy_tail.RULE,
    payload_size_latency.RULE,
    conn_keepalive_off.RULE,
    conn_tls_slow.RULE,
    conn_dns_slow.RULE,
    http_no_compression.RULE,
    cache_missing_validators.RULE,
    http_large_payload.RULE,
    http_redirects.RULE,
    http_cookies_large.RULE,
    warmup_cold_start.RULE,
    recovery_time.RULE,
    errors_none.RULE,
    latency_flat.RULE,
    generator_saturated.RULE,
    script_user_code.RULE,
    script_hub_delay.RULE,
    script_auth_wall.RULE,
    script_same_data.RULE,
    script_third_party.RULE,
    urls_cardinality.RULE,
    reference_slow.RULE,
    samples_too_few.RULE,
    duration_too_short.RULE,
)
"""Every judgement; its id is unique, and is the id of every finding it makes."""

_SURE = {"high": 0, "medium": 1, "low": 2}


def judge(summary: Summary, disabled: Collection[str] = ()) -> list[Finding]:
    """What the summary supports, the time that users lost first; rules named in `disabled` are not asked.

    Equal ones are ordered by confidence, then as in RULES. The user's own objectives rank above all else that failed.
    """
    found = [
        (place, asked(finding, summary))
        for place, rule in enumerate(RULES)
        if rule.id not in disabled
        for finding in rule.judge(summary)
    ]
    found.sort(
        key=lambda item: (
            item[1].id != slo_missed.RULE.id,
            -item[1].impact_s,
            _SURE[item[1].confidence],
            item[0],
        )
    )
    return [finding for _, finding in found]


def cleared(summary: Summary, found: Collection[Finding], disabled: Collection[str] = ()) -> list[tuple[str, str]]:
    """What was looked for and not found, as ids and sentences in the order of RULES.

    `found` is what `judge` returned. A rule that has found something, was not asked, or cannot tell is left out; of a
    run that says nothing about the server all are.
    """
    if summary.validity == "invalid" or not summary.total.tally.answered:
        return []
    spoke = {finding.id for finding in found}
    silent = [rule for rule in RULES if rule.cleared is not None and rule.id not in spoke and rule.id not in disabled]
    told = [(rule.id, rule.cleared(summary)) for rule in silent if rule.cleared is not None]
    return [(id, sentence) for id, sentence in told if sentence]
