"""From predictions to estimates: pandas, DuckDB, lifelines; no TensorFlow, no Beam."""
