"""A test that fails the build by its own rules."""

from locust import HttpUser, constant, events, task


@events.quitting.add_listener
def on_quitting(environment, **_):
    total = environment.stats.total
    if total.fail_ratio > 0.4:
        environment.process_exit_code = 41
    elif total.avg_response_time > 200 or total.get_response_time_percentile(0.95) > 800:
        environment.process_exit_code = 42
    else:
        environment.process_exit_code = 0


class Visitor(HttpUser):
    wait_time = constant(0.01)

    @task
    def look(self):
        self.client.get("/ok")
        self.client.get("/status/500")
