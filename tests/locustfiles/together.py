"""Requests of one user at the same time, and a user that ends the test itself."""

import gevent
from gevent.pool import Pool
from locust import FastHttpUser, HttpUser, User, task
from locust.exception import StopUser


class Page(User):
    abstract = True

    @task
    def page(self):
        self.client.get("/ok", name="page")
        pool = Pool(5)
        for number in range(10):
            pool.spawn(self.client.get, f"/slow/150?part={number}", name="part")
        pool.join()
        gevent.sleep(0.05)
        raise StopUser()


class Plain(Page, HttpUser):
    fixed_count = 1


class Fast(Page, FastHttpUser):
    fixed_count = 1
