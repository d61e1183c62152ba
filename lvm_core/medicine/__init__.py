"""Medicine: one formula, one function, with its paper.

- `body`: surface area, body mass index, LV mass index
- `lvh`: `Sex`, limits of the LV mass index, left ventricular hypertrophy
- `ecg_rules`: the rules of the ECG for hypertrophy: the paper's three, and six more
- `recalibration`: predicted mass and score recalibrated to CMR
"""
