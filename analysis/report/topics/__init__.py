"""The topics of a report: each computes tables from people, and shows them in a section.

`flow` (also code lists), `baseline`, `follow_up`, `rates`, `hazard_ratios` (also where death
competes), `cox_assumptions` (dose-response, proportional hazards), `added_value`, `sensitivity`
(also the negative control), `absolute_risk` (also standardised risk), `measurement_error`
(calibration by CMR, repeat ECGs) and `cmr`, whose parts are `cmr_pairs`, `cmr_agreement` and
`cmr_lvh`. `tables` is what they share; `key_results` is page one, made of what all of them found.
"""
