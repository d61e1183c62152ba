"""The engines that compute a model; import their modules, not this package.

`predictor`: every prediction goes through it. `choosing`: choose, make and check an engine.
`tensorflow_engine` and `spectral`: the two engines. `network` and `spectral_plan`: a Keras model
as plain arrays, and how the spectral engine computes it.
"""
