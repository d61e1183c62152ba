"""The catalogue of models, from a name to a loaded model; import its modules, not this package.

`spec`: identity, constants, inputs and outputs. `known`: the catalogue, `resolve_model` for an id
or a path, and `fetch_model`. `files`: what a model file is. `saved_model`: `.keras` files with a
card. `loading`: Keras models with checked inputs and outputs.
"""
