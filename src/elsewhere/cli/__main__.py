"""`python -m elsewhere.cli`."""

from elsewhere.cli.app import main

main()
