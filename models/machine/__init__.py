"""The machine that models run on; nothing here knows a model.

`host`: cores, memory and limits of this process, without TensorFlow. `runtime`: TensorFlow itself,
imported when called, its threads and its GPUs.
"""
