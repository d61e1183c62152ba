"""Domain core of LVM-AI: pure functions on ECGs, body size and LV mass; no files, no network."""
