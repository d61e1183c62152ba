"""Scoring, without Beam.

- `job`: the score job as it travels to workers
- `unit`: one unit: read, check, predict in fixed batches, write
"""
