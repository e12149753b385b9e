"""What lives inside Locust's own process: the only room that imports Locust.

`plugin` listens to what Locust's users do and writes each request into the run's journal; `lane` hosts a plan in stock
Locust users; `launch` starts stock Locust with either; `door` is `surgeline locust`. Importing this package imports no
Locust: that patches a process, and is left to processes that were started for it.
"""
