"""What a model is: known models, model files, their checks, conversion and loading."""
