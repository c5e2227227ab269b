"""``crosstalk grade``: submissions that cannot be trusted, graded safely and fast."""

import sys

# nbformat brings jsonschema, and that builds a grammar of web addresses whenever it is imported, which takes a second
# in the command and in each worker. No notebook is judged by an address; without this module jsonschema leaves it out.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
