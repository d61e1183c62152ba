"""Training of the published architectures; `models.train` is the command.

`config`: the settings of a run. `data`: ECGs, participants and CMR as one training set.
`architectures` and `losses`: what is fitted. `fit`: epochs. `progress`: what a run shows of itself.
"""
