"""Linear probes of a model: every baseline in the result, its table and its figure."""

import numpy as np
import pytest

import probes
from abbie_lens import zoo
from abbie_lens.errors import InputError, SiteError
from probes import corpus
from probes.labels.label import Label
from probes.labels.text import LABELS, get_label
from probes.probing.result import BY_ROW, FLAT
from probes.readings import linear as readings

WORDS = ["the", "cat", "sat", "on", "mat,", "and", "rat", "ran;", "then", "ran."]


@pytest.fixture(scope="module")
def model(tiny_model, tiny_tokenizer):
    # Not seed 0: `randomized(0)` would be the same model.
    return tiny_model(tokenizer=tiny_tokenizer, d_vocab=300, seed=7)


@pytest.fixture(scope="module")
def documents():
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, 40)) for _ in range(8)]


@pytest.fixture(scope="module")
def result(model, documents):
    sites = ("loop.hook_state", "body.1.attn.hook_z", "head.0.hook_resid_post")
    return probes.linear(model, documents, label="current_class", sites=sites, n_iters=2)


def test_token_identity_is_read_from_the_embedding(result):
    assert result.embedding[0] > 0.95 > result.majority[0]
    assert result.trained[0, 0, 0] > result.majority[0]
    low, high = result.trained[0, :, 1], result.trained[0, :, 2]
    assert ((low <= result.trained[0, :, 0]) & (result.trained[0, :, 0] <= high)).all()
    assert (result.shuffled[0, :, 0] < result.trained[0, :, 0]).all()


def test_h_0_is_row_0_of_the_state_and_rows_follow_the_site(result):
    np.testing.assert_array_equal(result.head_output, result.trained[0, 0])
    assert result.rows.tolist() == [3, 2, 0]
    assert np.isnan(result.trained[1, 2]).all() and np.isfinite(result.trained[1, :2]).all()
    assert np.isfinite(result.trained[2, 0]).all() and np.isnan(result.trained[2, 1:]).all()
    # The Head's last block is what the loop begins with.
    np.testing.assert_array_equal(result.trained[2, 0], result.trained[0, 0])


def test_untrained_baseline_is_the_randomized_model(model, documents):
    # Easy labels are read from any weights equally well.
    hard = Label(
        "hard",
        "length of the token two before is odd",
        ("no", "yes"),
        lambda texts: np.array([len(t) % 2 for t in ["", "", *texts[:-2]]]),
    )
    given: dict = dict(label=hard, n_iters=2, seed=1, penalties=(1e-3,))
    own = probes.linear(model, documents, **given)
    other = probes.linear(model.randomized(1), documents, **given)
    np.testing.assert_array_equal(own.untrained, other.trained)
    assert (own.untrained != own.trained).any()


def test_every_baseline_is_in_the_table_and_the_figure(result):
    frame = result.to_frame()
    conditions = {*BY_ROW, *FLAT}
    assert set(frame.condition) == conditions
    assert len(frame) == 5 * (3 + 2 + 1) + 3
    assert frame[frame.condition == "majority"].accuracy.item() == result.majority[0]
    fig = result.figure(site="loop.hook_state")
    curves = {t.name: t for t in fig.data if t.name}
    assert len(curves) == 7
    np.testing.assert_array_equal(curves["trained model"].y, result.trained[0, :, 0])
    np.testing.assert_array_equal(curves["untrained model"].y, result.untrained[0, :, 0])
    np.testing.assert_array_equal(curves["token embedding"].y, [result.embedding[0]] * 2)
    with pytest.raises(InputError, match="site="):
        result.figure(site="loop.hook_states")


def test_progress_counts_up_to_its_total_and_can_cancel(model, documents):
    seen = []
    probes.linear(model, documents, n_iters=1, progress=lambda *step: seen.append(step))
    done, total = zip(*seen, strict=True)
    assert list(done) == list(range(1, total[0] + 1)) and set(total) == {total[0]}
    with pytest.raises(probes.Cancelled, match="3 of"):
        probes.linear(model, documents, n_iters=1, progress=lambda done, _: done < 3)

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        probes.linear(model, documents, n_iters=1, progress=stop)


def test_seeds_decide_and_repeat(model, documents):
    first, again, other = (
        probes.linear(model, documents, n_iters=1, seed=seed).trained for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_one_text_is_cut_at_form_feeds_or_else_at_blank_lines():
    assert corpus.split_documents("a\n\nb\n  \nc\n\n\nd") == ["a", "b", "c", "\nd"]
    assert corpus.split_documents("a\n\nb\fc\fd\fe") == ["a\n\nb", "c", "d", "e"]
    for texts in ("a\n\nb\n\nc", ["a", "b", " ", "c"], "one text", []):
        with pytest.raises(InputError, match="at least 4"):
            corpus.split_documents(texts)


def test_windows_fit_the_context_and_keep_the_labels_of_the_document(model):
    text = '"' + "the cat sat " * 60
    found = corpus.windows(model, [text, "a", "b", "c"], get_label("quote_depth"), 1000, 0)
    mine = [w for w in found if w.document == 0]
    assert len(mine) > 1 and all(len(w.ids) <= model.cfg.n_ctx for w in mine)
    assert all(w.ids[0] == 0 and w.labels[0] == -1 for w in mine)
    assert all((w.labels[1:] == 1).all() for w in mine), "the quotation goes on in later windows"
    tokens = model.to_tokens(text, prepend_bos=False)[0].tolist()
    assert [i for w in mine for i in w.ids[1:]] == tokens[:256]


def test_rare_classes_are_left_out_and_named(model, documents):
    texts = [documents[0] + " 7 8 9", *documents[1:]]
    result = probes.linear(model, texts, label="current_class", n_iters=1)
    assert "digit" in result.dropped_classes and "digit" not in result.classes
    assert "digit" in str(result.figure().layout.annotations)


def test_bad_input_is_named(model, documents):
    with pytest.raises(InputError, match="'inside' in 0"):
        probes.linear(model, documents, label="quote_depth", n_iters=1)
    with pytest.raises(InputError, match="at least 4"):
        probes.linear(model, documents[:3], n_iters=1)
    with pytest.raises(InputError, match="Nearest: next_class"):
        probes.linear(model, documents, label="next_clas")
    with pytest.raises(SiteError, match=r"loop\.hook_state"):
        probes.linear(model, documents, sites=["loop.hook_stat"])
    with pytest.raises(InputError, match="vector per token"):
        probes.linear(model, documents, sites=["body.0.attn.hook_pattern"], n_iters=1)
    with pytest.raises(InputError, match="bare name"):
        probes.linear(model, documents, sites=["loop.hook_state@1"], n_iters=1)
    with pytest.raises(InputError, match="n_iters=0"):
        probes.linear(model, documents, n_iters=0)
    with pytest.raises(InputError, match="sites"):
        probes.linear(model, documents, sites=[])


def test_bundled_sample_serves_every_label(model):
    documents = corpus.split_documents(zoo.sample_text())
    for label in LABELS.values():
        found = corpus.windows(model, documents, label, 4000, 0)
        assert len(corpus.usable_classes(found, label)) >= 2, label.name
        assert len({w.document for w in found}) >= 8


def test_a_label_of_ones_own(model, documents):
    vowel = Label(
        "vowel",
        "ends in a vowel",
        ("no", "yes"),
        lambda texts: np.array([int(t[-1:] in "aeiou") for t in texts]),
    )
    result = probes.linear(model, documents, label=vowel, n_iters=1)
    assert result.label == "vowel" and result.counts.sum() > 0


class Length:
    """A label that is a number: the length of the token."""

    name, description, classes = "length", "characters of the token", ()

    def of(self, document, texts, spans):
        return np.array([float(len(text)) for text in texts])


def test_a_number_is_scored_by_r2_and_every_text_says_so(model, documents):
    found = probes.linear(model, documents, label=Length(), n_iters=1)
    assert found.kind == "regression" and found.score_name == "r2" and "r2" in found.to_frame()
    # the length follows from the word, so the embedding has it, and the mean explains nothing
    assert found.embedding[0] > 0.9 and found.majority[0] == pytest.approx(0, abs=1e-12)
    assert found.control[0, 0, 0] < found.trained[0, 0, 0]
    for view in ("score", "selectivity"):
        fig = found.figure(view=view)
        said = " ".join(str(note.text).replace("<br>", " ") for note in fig.layout.annotations)
        assert "R²" in fig.layout.yaxis.title.text and "R² = 1 −" in said
        assert "class" not in said and "accuracy" not in said
        assert "majority class" not in [trace.name for trace in fig.data]
    assert "R² " in readings.said(found) and "tokens right" not in readings.said(found)
    assert "points" not in readings.selective(found)
    with pytest.raises(InputError, match="confusion"):
        found.figure(view="confusion")
    over = found.fitted().predict_on(model, "the cat")
    assert over.equation.startswith("ŷ = W_k s_k") and over.figure().data


def test_labels_that_are_not_one_a_token_are_refused(model, documents):
    class Two(Length):
        def of(self, document, texts, spans):
            return np.zeros((len(texts), 2))

    class Short(Length):
        def of(self, document, texts, spans):
            return np.zeros(len(texts) - 1)

    with pytest.raises(InputError, match="2 things of a token"):
        probes.linear(model, documents, label=Two(), n_iters=1)
    with pytest.raises(InputError, match="expected one each"):
        probes.linear(model, documents, label=Short(), n_iters=1)
