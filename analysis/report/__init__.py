"""What a study publishes: tables, figures and one page, from masked aggregates."""
