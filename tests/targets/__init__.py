"""Small real servers that tests measure: each a process of its own on a free loopback port, with a log of its own."""
