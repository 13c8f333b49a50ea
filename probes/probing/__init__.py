"""Linear probes: what a linear reader finds in the states, at every site and iteration at once.

targets.py     what is to be read: classes, several labels at once, numbers; bad labels are refused
split.py       training, validation and test documents
standard.py    the scaler, fitted on the training tokens
lbfgs.py       the solver; logistic.py and ridge.py: what it solves
engine.py      `fit_many`: arrays in, scores with every control out
scores.py      scores by document and their intervals
estimator.py   `LinearProbe`, `RidgeProbe`: one probe as scikit-learn has it
features.py    what a probe reads: activations of a model, or of a collection
linear.py      `linear`: a model, a text and a label in, `LinearProbes` (result.py) out
iterations.py  `which_iteration`: predict k from h_k
structural.py  distance and depth probes of trees (sentences.py); treebank.py: `structural`, of a model and a treebank
stored.py      fitted probes: save, load, read a prompt with them (overlay.py)
"""
