"""The only Beam of the jobs: the transform over units, and where it runs."""
