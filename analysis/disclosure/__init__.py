"""What may leave of the tables of a study.

In the order of use: `meanings` (what counts count), `aggregates` (exact tables), `masking` (tables
as they may leave). `counts` relates counts of all tables, `suppression` decides which are hidden or
rounded more, and `audit` checks that none of the hidden ones can be worked out.
"""
