"""The Apache Beam jobs: ingest and score."""
