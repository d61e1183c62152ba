"""Index ECG, exclusions and event times, from dated records."""
