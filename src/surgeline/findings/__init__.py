"""Sentences from numbers: what a run did well, where it failed, what to explore next. One judgement per file."""
