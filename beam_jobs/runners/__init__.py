"""Where a job runs, and the only Beam of the jobs.

- `flow`: `run_job`, from settings to an exit code, and `Job`, what differs between jobs
- `pipeline`: the transform over units, and the runner
- `processes`: one run by several processes of this machine
"""
