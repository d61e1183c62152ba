"""The figures of a report: they draw masked tables, say what they show, and compute nothing.

`flow` of people; `differences` of two groups; `specifications` of sensitivity analyses;
`follow_up`: events by calendar time, cumulative incidence; `forest`; `models`: dose-response,
Schoenfeld residuals, calibration; `cmr`. `drawing` is what they share.
"""
