"""Numbers from numbers: what a run's measurements say, as pure functions.

`model` holds what comes out. Nothing here reads a file, looks at a clock or writes a sentence for people; that is what
`findings` and `report` are for.
"""
