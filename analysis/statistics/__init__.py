"""Statistics that know no study. Every result equals that of R.

Each subject lists its public functions and their results:

- `survival`: curves, rates, Cox models, proportional hazards, splines, competing events.
- `accuracy`: of a marker, with or without a threshold, and the concordance of Cox models.
- `agreement`: of two measurements, and the error of a measurement.
- `risk`: calibration and accuracy of predicted risks at a horizon; the E-value.

Beside them are `design` with the covariates of a model, `missing` with Rubin's rules, `limits` with
confidence limits, and `columns`, which checks the columns of a table: what a statistic cannot use
it refuses with `columns.TableRefused`.
"""
