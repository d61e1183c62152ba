"""People who do not exist, seeded, with their truth; each module says what it makes up.

- `people`: `synthetic_people`, with the true LV mass
- `ecgs`: `synthetic_ecgs`, `ecgs_of`
- `outcomes`: diseases, deaths, predictions drawn without ECGs
- `records`: coded events with the mess of real records
- `known_waves`: ECGs of exactly known R, S and QRS duration
- `device_files`: `WRITERS` of CardioSoft XML, MUSE XML and WFDB
"""
