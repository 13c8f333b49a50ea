"""What a bridged model refuses, in one line each, and what it says of itself."""

import pytest
import torch

import abbie_lens
from abbie_lens.bridged import Anchored, Damped, Loop, LoopedBridge
from abbie_lens.errors import AbbieLensError, CheckpointError, ConfigError, InputError
from abbie_lens.loops import AbbieD, Huginn
from tests.abbie_lens.bridged import by_hand, decoders

TOKENS = torch.tensor([[5, 7, 11, 13]])


def refused(kind, match, run):
    with pytest.raises(kind, match=match) as caught:
        run()
    assert isinstance(caught.value, AbbieLensError) and "\n" not in str(caught.value)


def test_windows_and_rules():
    refused(ConfigError, r"loop stop=2: expected more than start=2", lambda: Loop(2, 2))
    refused(ConfigError, r"loop start=-1", lambda: Loop(-1, 2))
    refused(ConfigError, r"loop rule='dampd'.*Nearest: damped", lambda: Loop(1, 2, "dampd"))
    refused(ConfigError, "rule=Huginn", lambda: Loop(1, 2, Huginn()))
    refused(ConfigError, "plain model at r = 1", lambda: Loop(1, 2, AbbieD("literal")))
    refused(ConfigError, "beta=1.5", lambda: Anchored(beta=1.5))
    five = lambda: LoopedBridge(decoders.make("gpt2"), Loop(1, 5))  # noqa: E731
    refused(ConfigError, "stop=5: the model has 4 blocks", five)


def test_models_that_cannot_be_bridged_or_looped():
    from transformers import T5Config, T5ForConditionalGeneration

    sizes = dict(d_model=16, d_kv=8, d_ff=16, num_layers=2, num_heads=2, vocab_size=50)
    loop = Loop(0, 1)
    pair = T5ForConditionalGeneration(T5Config(**sizes))
    refused(InputError, "encoder", lambda: LoopedBridge(pair, loop))
    refused(InputError, "neither", lambda: LoopedBridge(torch.nn.Linear(2, 2), loop))
    backbone = decoders.make("llama").model
    refused(InputError, "cannot bridge LlamaModel", lambda: LoopedBridge(backbone, loop))
    once = LoopedBridge(decoders.make("gpt2"), loop)
    refused(InputError, "looped already", lambda: LoopedBridge(once.bridge, loop))
    refused(InputError, "bridged already", lambda: LoopedBridge(once.source, loop))


def foreign(kind):
    """A tiny model of transformers that is no causal decoder with attention."""
    import transformers as hf

    sizes = dict(vocab_size=60, hidden_size=16, num_hidden_layers=2)
    heads = dict(num_attention_heads=2, intermediate_size=16)
    if kind == "bert":
        return hf.BertForMaskedLM(hf.BertConfig(**sizes, **heads))
    if kind == "mamba":
        return hf.MambaForCausalLM(hf.MambaConfig(**sizes, state_size=4))
    if kind == "vit":
        return hf.ViTForImageClassification(
            hf.ViTConfig(hidden_size=16, num_hidden_layers=2, **heads)
        )
    config = hf.BartConfig(
        vocab_size=60, d_model=16, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16,
    )  # fmt: skip
    return hf.BartForConditionalGeneration(config)


@pytest.mark.parametrize(
    ("kind", "why", "of_folder"),
    [
        ("bert", "see later ones", "see later ones"),
        ("mamba", "has no attention", "has no attention"),
        ("bart", "has an encoder", "has an encoder"),
        ("vit", "cannot bridge|has no", "cannot read it as a causal"),
    ],
)
def test_other_architectures(kind, why, of_folder, tmp_path):
    model = foreign(kind)
    model.save_pretrained(tmp_path)
    refused(InputError, why, lambda: LoopedBridge(model, Loop(0, 1)))
    refused(CheckpointError, of_folder, lambda: abbie_lens.load(tmp_path, "cpu", loop=Loop(0, 1)))


def test_a_tokenizer_of_another_vocabulary(tmp_path, tiny_tokenizer):
    small = decoders.make("llama", vocab_size=100)
    refused(InputError, r"tokenizer: has \d+ tokens, the model's vocabulary 100", lambda: LoopedBridge(small, Loop(1, 3), tiny_tokenizer))  # fmt: skip
    decoders.make("llama", vocab_size=100).save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    refused(CheckpointError, r"tokenizer.json: has \d+ tokens", lambda: abbie_lens.load(tmp_path, "cpu", loop=Loop(1, 3)))  # fmt: skip


def test_arguments():
    model = LoopedBridge(decoders.make("gpt2"), Loop(1, 3))
    state = torch.zeros(1, 4, decoders.WIDTH)
    for given in (dict(seed=1), dict(initial_state=state)):
        for run in (model.begin, model, model.run_with_cache):
            refused(InputError, "draws no initial state", lambda: run(TOKENS, n_iters=2, **given))  # noqa: B023
    refused(InputError, "save_pretrained", lambda: model.save_pretrained("anywhere"))
    refused(InputError, "n_iters=-1", lambda: model(TOKENS, n_iters=-1))
    refused(InputError, "context holds 64", lambda: model(torch.zeros(1, 65, dtype=torch.long)))
    refused(InputError, "vocabulary", lambda: model(torch.tensor([[100]])))


def test_greedy_generation_is_the_plain_model_at_one_iteration_and_the_loop_by_hand_beyond():
    source = decoders.make("llama")
    model = LoopedBridge(decoders.make("llama"), Loop(1, 3, "damped"))
    blocks = decoders.stack(source)
    for r in (1, 3):
        tokens = TOKENS
        for _ in range(5):
            _, zs = by_hand.states(source, blocks, 1, 3, tokens, "damped", r)
            logits, _ = by_hand.logits_and_entry(source, blocks, 1, 3, zs[-1], tokens)
            tokens = torch.cat([tokens, logits[:, -1:].argmax(-1)], 1)
        assert model.generate(TOKENS, 5, n_iters=r, temperature=0).tolist() == tokens.tolist()


def test_identity_and_control():
    model = LoopedBridge(decoders.make("qwen3"), Loop(1, 3, Damped()), name="tiny")
    control, again = model.randomized(1), model.randomized(1)
    other = LoopedBridge(decoders.make("qwen3"), Loop(0, 3, Damped()), name="tiny")
    assert model.info().family == "damped, blocks 1:3 of Qwen3ForCausalLM"
    assert model.info().weight_hash == other.info().weight_hash != control.info().weight_hash
    assert control.info().weight_hash == again.info().weight_hash
    assert model.info().family != other.info().family
    assert model.info().n_params == sum(p.numel() for p in decoders.make("qwen3").parameters())
    assert control.cfg.loop == model.cfg.loop and control.window == model.window
    assert model.cfg.n_layers(4) == 1 + 4 * 2 + 1 and model.cfg.to_dict()["d_model"] == 32


def test_a_folder_of_transformers_is_loaded_with_its_tokenizer(tmp_path, tiny_tokenizer):
    source = decoders.make("llama", vocab_size=300)
    source.save_pretrained(tmp_path / "plain")
    tiny_tokenizer.save_pretrained(tmp_path / "plain")
    loop = Loop(1, 3, "damped")
    model = abbie_lens.load(tmp_path / "plain", "cpu", loop=loop)
    tokens = model.to_tokens("the cat sat")
    with torch.no_grad():
        torch.testing.assert_close(model(tokens), source(tokens).logits, rtol=0, atol=1e-5)
    assert model.generate("the cat", 3, n_iters=2, seed=0).startswith("the cat")
    assert model.dtype == torch.float32
    assert abbie_lens.load(tmp_path / "plain", "cpu", "bfloat16", loop=loop).dtype == torch.bfloat16
    weights = tmp_path / "plain" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    refused(
        CheckpointError,
        "damaged or not a safetensors",
        lambda: abbie_lens.load(tmp_path / "plain", loop=loop),
    )
    zoo = abbie_lens.zoo.names()
    if zoo:
        refused(CheckpointError, "own loop", lambda: abbie_lens.load(zoo[0], loop=loop))
