"""`python -m hermes_tui`: the same as the `hermes-trace-tui` command."""

from hermes_tui.cli import main

main()
