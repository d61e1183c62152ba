"""The figures of a report. They draw masked tables and compute nothing; each also says what it shows.

`flow` of people; `follow_up`: events by calendar time, cumulative incidence; `forest`; `models`:
dose-response, Schoenfeld residuals, calibration; `cmr`. `drawing` is what they share.
"""
