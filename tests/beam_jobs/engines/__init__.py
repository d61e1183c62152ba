"""Whole jobs on engines: worker processes, clusters on loopback, what is killed in mid-job."""
