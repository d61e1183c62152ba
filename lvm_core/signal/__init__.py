"""The ECG as a signal: leads, resampling, beats, quality, plausibility."""
