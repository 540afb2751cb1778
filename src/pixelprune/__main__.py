"""``python -m pixelprune``, for launchers that start modules."""

from .cli import main

main()
