"""Labels: what a probe is asked to read from the states, for every token one class, one number, or nothing.

text.py      by name, from the text alone          counted.py   by name, classes counted in the text
conllu.py    treebanks in CoNLL-U                  treebank.py  their labels; trees.py: for structural probes
table.py     a table of your own                   tasks.py     from the tasks of known depth
spans.py     labels of stretches of a text, and which tokens get them
"""
