"""Formats of device files: bytes in, `Ecg` out.

Others use `registry`: `FORMATS`, `format_of`, `format_with_parts`, `read_ecg`, `size_problem`,
`MAX_RECORD_BYTES`, `MAIN_SUFFIXES`, `ECG_SUFFIXES`. A new format is a module beside `wfdb`, made
with `channels` (leads, measurements, dates), `statements` (rhythm and conduction) and `xml`, and an
entry in `registry.FORMATS`.
"""
