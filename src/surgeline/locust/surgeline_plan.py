"""The locustfile of a plan whose load Locust decides: a user class for stock Locust."""

from surgeline.locust.lane_users import PlanUser

__all__ = ["PlanUser"]
