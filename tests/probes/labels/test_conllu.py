"""CoNLL-U: exact text and characters, multiword tokens, empty nodes, what is wrong in a file."""

import re

import numpy as np
import pytest

from abbie_lens.errors import InputError
from probes.labels.conllu import parse_conllu, read_conllu
from probes.labels.treebank import TREEBANK_LABELS, treebank_label
from probes.labels.trees import depths, distances, trees


def rows(*words, text=None, before=()):
    """Lines of a sentence; a word is (ID, FORM, UPOS, HEAD, DEPREL, MISC), the last ones optional."""
    lines = [*before] + ([f"# text = {text}"] if text is not None else [])
    for word in words:
        id_, form, upos, head, deprel, misc = [*word, *"_" * (6 - len(word))]
        lines.append("\t".join([id_, form, form, upos, "X", "_", head, deprel, "_", misc]))
    return "\n".join(lines) + "\n\n"


TRICKY = rows(
    ("1-2", "Don't", "_", "_", "_", "_"),
    ("1", "Do", "AUX", "3", "aux"),
    ("2", "n't", "PART", "3", "advmod"),
    ("3", "eat", "VERB", "0", "root"),
    ("3.1", "[it]", "PRON", "_", "_"),
    ("4-5", "du", "_", "_", "_", "_"),
    ("4", "de", "ADP", "6", "case"),
    ("5", "le", "DET", "6", "det"),
    ("6", "\U0001f600 pain", "NOUN", "3", "obj:x", "SpaceAfter=No"),
    ("7", "!", "PUNCT", "3", "punct"),
    text="Don't eat  du \U0001f600 pain!",
    before=("# newdoc id = a", "# sent_id = 1"),
)  # fmt: skip


def forms(bank):
    return [[bank.documents[s.document][w.start : w.end] for w in s.words] for s in bank.sentences]


def test_multiword_tokens_empty_nodes_and_spaces_inside_words():
    bank = parse_conllu(TRICKY)
    assert bank.documents == ("Don't eat  du \U0001f600 pain!",)
    assert forms(bank) == [["Do", "n't", "eat", "du", "du", "\U0001f600 pain", "!"]]
    assert [w.head for w in bank.sentences[0].words] == [3, 3, 0, 6, 6, 3, 3]


def test_words_of_one_token_that_does_not_spell_them_leave_it_without_a_label():
    bank = parse_conllu(TRICKY)
    got = treebank_label(bank, "upos")
    tokens = np.array([[0, 2], [2, 5], [5, 9], [10, 13], [13, 20], [20, 21]])
    named = ["-" if c < 0 else got.classes[c] for c in got.of(0, [], tokens)]
    assert named == ["AUX", "PART", "VERB", "-", "NOUN", "PUNCT"]
    assert "obj" in treebank_label(bank, "deprel").classes


def test_without_text_the_words_and_their_spaces_make_it():
    bank = parse_conllu(
        rows(("1", "A", "DET", "2"), ("2", "b", "NOUN", "0", "root", "SpaceAfter=No"), ("3", ".", "PUNCT", "2"),
             before=("# newdoc",))
        + rows(("1", "C", "NOUN", "0", "root", r"SpacesAfter=\s\n"))
        + rows(("1", "D", "NOUN", "0", "root", "SpaceAfter=No"), before=("# newpar id = p2",))
        + rows(("1", "e", "NOUN", "0", "root"))
        + rows(("1", "F", "NOUN", "0", "root"), before=("# newdoc id = 2",))
    )  # fmt: skip
    assert bank.documents == ("A b. C\n\nDe", "F")
    assert forms(bank) == [["A", "b", "."], ["C"], ["D"], ["e"], ["F"]]


def test_sentences_are_documents_where_no_file_says_where_one_begins():
    one = rows(("1", "A", "X", "0", "root"))
    assert parse_conllu(one + one).documents == ("A", "A")
    # Carriage returns, a byte-order mark and no blank line at the end are no obstacle.
    assert parse_conllu((one + one.rstrip("\n")).replace("\n", "\r\n")).documents == ("A", "A")


def test_several_files_go_on_with_their_documents(tmp_path):
    for name in "ab":
        (tmp_path / name).write_text("\ufeff" + TRICKY, encoding="utf-8")
    bank = read_conllu(tmp_path / "a", tmp_path / "b")
    assert [s.document for s in bank.sentences] == [0, 1] and len(set(bank.documents)) == 1


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "holds no sentence"),
        ("1\ta\tb\n", r"line 1: 3 tab-separated columns; CoNLL-U has 10"),
        (rows(("one", "a")), "line 1: ID 'one'; expected 3, 2-3 or 8.1"),
        (rows(("2", "a")), "line 1: ID '2'; expected 1"),
        (rows(("1", "a"), ("1", "b")), "line 2: ID '1'; expected 2"),
        (rows(("2-1", "a"), ("1", "b")), "line 1: ID '2-1'; expected 1"),
        (rows(("1-3", "a"), ("1", "b")), "multiword token to 3 is not complete"),
        (rows(("1-3", "ab"), ("1-2", "ab"), ("1", "a")), "line 2: multiword token inside another"),
        (rows(("1", "b"), text="a b"), "line 2: form 'b' is not what '# text' goes on with, 'a b'"),
        (rows(("1", "a", "X", "2")), "line 1: HEAD '2' in a sentence of 1 words"),
        (rows(("1", "a", "X", "x")), "line 1: HEAD 'x'; expected a number or _"),
        (rows(("1", "a", "X", "1")), "line 1: HEAD 1 is the word itself"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(text, said):
    with pytest.raises(InputError, match=said) as caught:
        parse_conllu(text, "file")
    assert "\n" not in str(caught.value)


def test_files_that_are_not_there_or_not_text(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name in ("absent", "binary"):
        with pytest.raises(InputError, match="can't be read as text"):
            read_conllu(tmp_path / name)


CHAIN = rows(
    ("1", "a", "X", "2"), ("2", "b", "X", "4"), ("3", "c", "X", "4"), ("4", "d", "X", "0"), ("5", "e", "X", "_")
)  # fmt: skip


def test_depth_and_distance_count_the_edges_between():
    (sentence,) = parse_conllu(CHAIN).sentences
    np.testing.assert_array_equal(depths(sentence), [2, 1, 1, 0, np.nan])
    expected = [[0, 1, 3, 2], [1, 0, 2, 1], [3, 2, 0, 1], [2, 1, 1, 0]]
    np.testing.assert_array_equal(distances(sentence)[:4, :4], expected)
    assert np.isnan(distances(sentence)[4]).all()


def test_head_distance_is_signed_and_the_root_has_none():
    got = treebank_label(parse_conllu(CHAIN), "head_distance")
    np.testing.assert_array_equal(got.values[0], [1, 2, 1, np.nan, np.nan])
    side = treebank_label(parse_conllu(CHAIN + CHAIN.replace("\t2\t", "\t0\t")), "head_side")
    assert side.classes == ("right",)


def test_heads_in_a_circle_are_refused():
    bank = parse_conllu(rows(("1", "a", "X", "2"), ("2", "b", "X", "1")))
    with pytest.raises(InputError, match="'a b': the heads from word 1 go in a circle"):
        treebank_label(bank, "tree_depth")


def test_labels_that_the_file_does_not_say_are_refused():
    bank = parse_conllu(rows(("1", "a")))
    with pytest.raises(InputError, match="'upos': the treebank says it of no word"):
        treebank_label(bank, "upos")
    with pytest.raises(InputError, match="Nearest: upos"):
        treebank_label(bank, "uposs")


def test_trees_keep_words_with_a_token_of_their_own():
    bank = parse_conllu(TRICKY)
    tokens = np.array([[0, 2], [2, 5], [5, 9], [10, 13], [13, 20], [20, 21]])
    (tree,) = trees(bank, 0, tokens)
    assert tree.tokens.tolist() == [0, 1, 2, 4, 5]
    assert tree.depth.tolist() == [1, 1, 0, 1, 1] and tree.distance[0].tolist() == [0, 2, 1, 2, 2]
    assert trees(bank, 0, tokens[:1]) == []
    (chain,) = trees(parse_conllu(CHAIN), 0, np.array([[2 * i, 2 * i + 1] for i in range(5)]))
    assert chain.tokens.tolist() == [0, 1, 2, 3] and np.isfinite(chain.distance).all()
    with pytest.raises(InputError, match="piece='all': expected 'last' or 'first'"):
        trees(bank, 0, tokens, "all")


def test_a_real_treebank_is_spelt_exactly(shared_data):
    path = shared_data / "en_ewt-ud-test.conllu"
    bank = read_conllu(path)
    for sentence in bank.sentences:
        for word in sentence.words:
            assert bank.documents[sentence.document][word.start : word.end] == word.form
    source = path.read_text(encoding="utf-8")
    assert len(bank.documents) == len(re.findall("^# newdoc", source, re.M))
    assert sum(len(s.words) for s in bank.sentences) == len(re.findall(r"^\d+\t", source, re.M))
    for name in TREEBANK_LABELS:
        label = treebank_label(bank, name)
        assert sum(map(len, label.values)) == sum(map(len, label.spans))
    assert len(treebank_label(bank, "upos").classes) == 17
