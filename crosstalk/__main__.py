"""``python -m crosstalk`` is ``crosstalk``."""

from crosstalk.cli import main

main()
