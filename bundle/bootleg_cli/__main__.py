"""Run as ``python -m bootleg_cli``."""

from bootleg_cli import main

main()
