"""`--client native`: a locustfile that must not change gets our two user classes under the names it imports.

Done before the locustfile is read. Whatever was imported from Locust earlier keeps the stock classes, of which ours are
subclasses.
"""

import os

CLIENT = "SURGELINE_LOCUST_CLIENT"
"""Environment variable: `native`, or `stock` (the default)."""
CLIENTS = ("stock", "native")


def wanted() -> str:
    """The client that the environment asks for. ValueError with a sentence for a word that is none."""
    client = os.environ.get(CLIENT) or "stock"
    if client not in CLIENTS:
        raise ValueError(f"{CLIENT}={client!r} is neither stock nor native")
    return client


def swap() -> None:
    """Puts our classes where Locust's are imported from. ImportError where the native engine is not built."""
    import locust
    import locust.clients
    import locust.contrib.fasthttp
    import locust.user
    import locust.user.users

    from surgeline.locust import fast, plain

    for module in (locust, locust.user, locust.user.users):
        vars(module)["HttpUser"] = plain.HttpUser
    for module in (locust, locust.contrib.fasthttp):
        vars(module)["FastHttpUser"] = fast.FastHttpUser
