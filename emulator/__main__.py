"""python -m emulator."""

from emulator.cli.main import main

main()
