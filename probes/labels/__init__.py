"""Labels: what a probe is asked to read from the states, for every token one class, one number, or nothing.

text.py      by name, from the text alone          counted.py   by name, classes counted in the text
conllu.py    treebanks in CoNLL-U                  treebank.py  their labels; trees.py: for structural probes
table.py     a table of your own                   tasks.py     from the tasks of known depth
spans.py     labels of stretches of a text, and which tokens get them
"""

from probes.labels.collected import label_index
from probes.labels.conllu import Treebank, parse_conllu, read_conllu
from probes.labels.counted import COUNTED, Counted
from probes.labels.label import UNDEFINED, Label, Labelling
from probes.labels.names import find_label
from probes.labels.spans import PIECES, SpanLabel
from probes.labels.table import read_table, table_label
from probes.labels.tasks import TASK_LABELS, task_label
from probes.labels.text import LABELS, get_label
from probes.labels.treebank import TREEBANK_LABELS, treebank_label
from probes.labels.trees import Tree, trees

__all__ = [
    "COUNTED",
    "LABELS",
    "PIECES",
    "TASK_LABELS",
    "TREEBANK_LABELS",
    "UNDEFINED",
    "Counted",
    "Label",
    "Labelling",
    "SpanLabel",
    "Tree",
    "Treebank",
    "find_label",
    "get_label",
    "label_index",
    "parse_conllu",
    "read_conllu",
    "read_table",
    "table_label",
    "task_label",
    "treebank_label",
    "trees",
]
