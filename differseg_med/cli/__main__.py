"""``python -m differseg_med.cli``."""

from differseg_med.cli import main

main()
