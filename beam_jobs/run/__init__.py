"""One run of a job, whatever runs it: from settings and inputs to a folder that is finished.

- `settings`, `declared`: what a run depends on, each option declared once
- `plan`, `planner`: what will be done, decided before anything is done
- `participants`, `exclusions`: the people of a run, and those who must not be in it
- `index`, `pseudonyms`: the table that lists an archive's records, and what stands for identifiers
- `resources`: what it computes with, and the memory that takes
- `commit`, `folder`: the files of a unit, and the folder around them
- `progress`, `report`: what a user sees meanwhile, and what a run says about itself
"""
