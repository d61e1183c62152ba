"""Signals of 12-lead ECGs.

- `ecg`: `Ecg`, `Measurements`, `RhythmCodes`, `LEADS_12`, `MODEL_LEADS`, lead names, derived leads
- `canonical`: the stored form, 10 s at 500 Hz: `canonicalise`, `interpolate_missing`
- `plausibility`: whether an ECG may be scored: `judge_ecgs`, `unscorable`
- `quality`: `QualityFlag`, `Rejection`, plausible ranges of people's values
- `scale`: whether the voltages of a whole run can be right
- `disturbances`: noise, wander, clipping, with `electrodes` and `pacing` exchanged arms and spikes
- `beats`: R peaks, phases of a beat, the average beat
- `measuring`: R, S and QRS duration where the device gave none: `measure_ecg`
"""
