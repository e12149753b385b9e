"""Loads that a class decides second by second: stages, two waves, steps."""

import math
import os

from locust import FastHttpUser, LoadTestShape, constant, task


class Visitor(FastHttpUser):
    wait_time = constant(0.05)

    @task
    def look(self):
        self.client.get("/ok")


class Guest(Visitor):
    pass


if os.environ["SHAPE"] == "stages":

    class Stages(LoadTestShape):
        stages = ((1.5, 2, [Visitor]), (4, 5, [Guest]))

        def tick(self):
            for until, users, classes in self.stages:
                if self.get_run_time() < until:
                    return users, 100, classes
            return None


if os.environ["SHAPE"] == "waves":

    class Waves(LoadTestShape):
        def tick(self):
            at = self.get_run_time() / 4
            if at > 1:
                return None
            wave = math.exp(-(((at - 0.25) / 0.12) ** 2)) + math.exp(-(((at - 0.75) / 0.12) ** 2))
            return 1 + round(5 * wave), 100


if os.environ["SHAPE"] == "steps":

    class Steps(LoadTestShape):
        step_s, step_users, until_s = 1.2, 2, 4

        def tick(self):
            passed = self.get_run_time()
            return None if passed > self.until_s else (self.step_users * (1 + int(passed // self.step_s)), 100)
