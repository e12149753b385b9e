"""`python -m surgeline` is the command line."""

from surgeline.cli import main

main()
