"""The locustfile of plans: a user class and a shape for stock Locust."""

from surgeline.locust.lane import PlanShape, PlanUser

__all__ = ["PlanShape", "PlanUser"]
