"""What is tested: a Plan, a value that says which requests are sent, in which flows, under which load.

`model` holds the value, `text` reads and writes it as YAML with line and key in every error, `sources` turn something
the user already has (a URL, an OpenAPI document) into one.
"""
