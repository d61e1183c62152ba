"""Statistics that know no study. Every result equals that of R."""
