"""Body size, LV mass index and LVH, ECG rules, recalibration."""
