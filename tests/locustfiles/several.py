"""Several user classes: two by weight, one in a fixed number, one on the fast client, one that is abstract."""

from locust import FastHttpUser, HttpUser, constant, task


class Base(HttpUser):
    abstract = True
    wait_time = constant(0.02)

    @task
    def home(self):
        self.client.get("/ok", name=f"/home of {type(self).__name__}")


class Web(Base):
    weight = 3


class Mobile(Base):
    weight = 1


class Admin(FastHttpUser):
    fixed_count = 1
    wait_time = constant(0.02)

    @task
    def panel(self):
        self.client.get("/echo", name="/panel")
