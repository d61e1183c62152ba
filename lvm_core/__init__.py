"""Domain core of LVM-AI: pure functions on ECGs, body size and LV mass; no files, no network.

- `signal`: one recording, its leads, its stored form, its quality
- `medicine`: body size, LV mass index, LVH, ECG rules, recalibration
- `formats`: device files; `registry` is the one place that knows them
- `tables`: schemas of Parquet tables, and the readers of tables of people
- `synthetic`: people, ECGs, outcomes and records that are made up, with their truth
- `errors`, `units`, `settings_text`, `command_line`: what every part uses
"""
