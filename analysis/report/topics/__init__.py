"""The topics of a report: each is a section with what it computes from people and how it is shown.

`flow` (also code lists), `baseline`, `follow_up`, `rates`, `hazard_ratios` (also competing risk of death),
`cox_assumptions` (dose-response, proportional hazards), `added_value`, `sensitivity` (also the negative
control), `absolute_risk` (also standardised risk), `measurement_error` (calibration by CMR, repeat
ECGs) and `cmr`, whose parts are `cmr_pairs`, `cmr_agreement` and `cmr_lvh`. `tables` is what they share.
"""
