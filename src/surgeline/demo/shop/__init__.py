"""A bookshop to put under load: what does a real backend with known faults look like from outside?

A small web API over SQLite files, served on loopback, with faults planted on purpose (`faults` lists them all) that can
be switched off one by one. It is a program of its own: it imports nothing of Surgeline, and Surgeline learns about it
only by sending it requests. Start it with `python -m surgeline.demo.shop`.
"""
