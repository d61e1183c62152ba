"""What a model is, and how a name becomes one that is loaded; imported by module.

`spec`: identity, constants, inputs and outputs. `known`: the catalogue, `resolve_model` for an id
or a path, and `fetch_model`. `files`: what a model file is. `saved_model`: `.keras` files with a
card. `loading`: Keras models with checked inputs and outputs.
"""
