"""Predictions as a phenotype: files for genetic programs, and rows of OMOP.

These are rows of people, which stay restricted.

`command` is `lvm-ai phenotype`; `people` chooses them, `relatives` leaves out relatives, `genetics`
and `omop` write the files.
"""
