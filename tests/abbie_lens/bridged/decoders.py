"""Tiny random decoders of transformers' own classes: one a shape, four blocks each."""

import torch

N_BLOCKS, WIDTH, VOCABULARY, CONTEXT = 4, 32, 100, 64
# grouped queries: two key/value heads for four query heads
_ROTARY = dict(
    vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=48, num_hidden_layers=N_BLOCKS,
    num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=CONTEXT, initializer_range=0.2,
)  # fmt: skip


def _classes():
    import transformers as hf

    return {
        "gpt2": (hf.GPT2LMHeadModel, hf.GPT2Config, dict(
            vocab_size=VOCABULARY, n_embd=WIDTH, n_layer=N_BLOCKS, n_head=4, n_positions=CONTEXT, initializer_range=0.2,
        )),
        "llama": (hf.LlamaForCausalLM, hf.LlamaConfig, _ROTARY),
        "neox": (hf.GPTNeoXForCausalLM, hf.GPTNeoXConfig, {
            k: v for k, v in _ROTARY.items() if k != "num_key_value_heads"
        }),
        "qwen2": (hf.Qwen2ForCausalLM, hf.Qwen2Config, _ROTARY),
        "qwen3": (hf.Qwen3ForCausalLM, hf.Qwen3Config, _ROTARY | dict(head_dim=16)),
        "gemma": (hf.GemmaForCausalLM, hf.GemmaConfig, _ROTARY | dict(head_dim=16)),
        "gemma2": (hf.Gemma2ForCausalLM, hf.Gemma2Config, _ROTARY | dict(
            head_dim=16, query_pre_attn_scalar=16, sliding_window=4, final_logit_softcapping=3.0,
        )),
        "gemma3": (hf.Gemma3ForCausalLM, hf.Gemma3TextConfig, _ROTARY | dict(
            head_dim=16, query_pre_attn_scalar=16, sliding_window=4, sliding_window_pattern=2,
        )),
    }  # fmt: skip


NAMES = ("gpt2", "llama", "neox", "qwen2", "qwen3", "gemma", "gemma2", "gemma3")


def make(name, seed=0, **changes):
    """A fresh model in eval mode with eager attention, as TransformerLens runs it."""
    model_class, config_class, fields = _classes()[name]
    torch.manual_seed(seed)
    config = config_class(**(fields | changes), attn_implementation="eager")
    return model_class(config).eval()


def stack(model):
    """The blocks of an untouched model."""
    return next(
        m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == N_BLOCKS
    )
