"""The figures of the report. They draw tables and compute nothing."""
