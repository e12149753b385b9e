"""Arguments of the locustfile's own."""

from locust import HttpUser, constant, events, task


@events.init_command_line_parser.add_listener
def add_arguments(parser):
    parser.add_argument("--greeting", env_var="LOCUST_GREETING", default="none", help="What is said")
    parser.add_argument("--token", is_secret=True, default="", help="What is not shown")
    parser.add_argument("--twice", action="store_true")


@events.test_start.add_listener
def on_test_start(environment, **_):
    print("told: the greeting is", environment.parsed_options.greeting)


class Visitor(HttpUser):
    wait_time = constant(0.05)

    @task
    def greet(self):
        options = self.environment.parsed_options
        headers = {"X-Greeting": options.greeting, "Authorization": f"Bearer {options.token}"}
        for number in range(2 if options.twice else 1):
            self.client.get("/echo", headers=headers, name=f"/greet {number}")
