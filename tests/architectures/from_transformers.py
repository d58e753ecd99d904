"""Of transformers: the parts of models that take floating-point inputs."""

from __future__ import annotations

from typing import Any

from torch import nn

from .zoo import Applied, architecture


def hugging(model: str, config: str, **options: Any) -> nn.Module:
    import transformers

    return getattr(transformers, model)(getattr(transformers, config)(**options))


#: BERT and its like.
text = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "vocab_size": 50,
    "max_position_embeddings": 16,
}
image = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "image_size": 32}


def on_embeddings(module: nn.Module) -> nn.Module:
    """The last hidden state at the last token, from embeddings."""
    return Applied(module, lambda m, x: m(inputs_embeds=x).last_hidden_state[:, -1])


@architecture("transformers", 6, 16, quick=True)
def bert() -> nn.Module:
    return on_embeddings(hugging("BertModel", "BertConfig", **text))


@architecture("transformers", 6, 16)
def bert_all_outputs() -> nn.Module:
    return Applied(hugging("BertModel", "BertConfig", **text), lambda m, x: m(inputs_embeds=x))


@architecture("transformers", 6, 16)
def distilbert() -> nn.Module:
    sizes = {"dim": 16, "hidden_dim": 32, "n_layers": 2, "n_heads": 2, "vocab_size": 50}
    return on_embeddings(hugging("DistilBertModel", "DistilBertConfig", **sizes))


@architecture("transformers", 6, 16)
def gpt2() -> nn.Module:
    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 50, "n_positions": 16}
    return on_embeddings(hugging("GPT2Model", "GPT2Config", **sizes, use_cache=False))


@architecture("transformers", 6, 16, tolerance=1e-6)  # its norms are in float32
def llama() -> nn.Module:
    return on_embeddings(hugging("LlamaModel", "LlamaConfig", **text, use_cache=False))


@architecture("transformers", 6, 16, tolerance=1e-6)  # its norms are in float32
def t5_encoder() -> nn.Module:
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2, "vocab_size": 50}
    return on_embeddings(hugging("T5EncoderModel", "T5Config", **sizes))


@architecture("transformers", 6, 16, tolerance=1e-6)  # its norms are in float32
def mamba() -> nn.Module:
    sizes = {"hidden_size": 16, "state_size": 4, "num_hidden_layers": 2, "vocab_size": 50}
    return on_embeddings(hugging("MambaModel", "MambaConfig", **sizes, use_cache=False))


@architecture("transformers", 3, 32, 32)
def hugging_vit() -> nn.Module:
    module = hugging("ViTForImageClassification", "ViTConfig", **image, patch_size=8, num_labels=10)
    return Applied(module, lambda m, x: m(x).logits)


@architecture("transformers", 3, 32, 32)
def dinov2() -> nn.Module:
    module = hugging("Dinov2Model", "Dinov2Config", **image, patch_size=8, layerscale_value=0.1)
    return Applied(module, lambda m, x: m(x).pooler_output)


@architecture("transformers", 3, 32, 32)
def clip_vision() -> nn.Module:
    module = hugging("CLIPVisionModelWithProjection", "CLIPVisionConfig", **image, patch_size=8, projection_dim=10)
    return Applied(module, lambda m, x: m(x).image_embeds)


@architecture("transformers", 3, 32, 32)
def segformer() -> nn.Module:
    sizes = {"hidden_sizes": [8, 16, 16, 16], "depths": [1] * 4, "num_attention_heads": [1, 2, 2, 2]}
    module = hugging("SegformerModel", "SegformerConfig", **sizes)
    return Applied(module, lambda m, x: m(x).last_hidden_state.mean((2, 3)))


@architecture("transformers", 400)
def wav2vec2() -> nn.Module:
    sizes = {"conv_dim": (16, 16), "conv_kernel": (10, 3), "conv_stride": (5, 2), "num_conv_pos_embeddings": 4}
    options = {**text, **sizes, "num_conv_pos_embedding_groups": 2, "num_feat_extract_layers": 2}
    module = hugging("Wav2Vec2Model", "Wav2Vec2Config", **options)
    return Applied(module, lambda m, x: m(x).last_hidden_state.mean(1))


@architecture("transformers", 8, 20)
def whisper_encoder() -> nn.Module:
    sizes = {
        "d_model": 16,
        "encoder_layers": 2,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 32,
        "vocab_size": 50,
    }
    options = {"num_mel_bins": 8, "max_source_positions": 10, "pad_token_id": 0, "decoder_start_token_id": 0}
    module = hugging("WhisperModel", "WhisperConfig", **sizes, **options).encoder
    return Applied(module, lambda m, x: m(x).last_hidden_state.mean(1))


@architecture("transformers", 3, 12)
def patch_tst() -> nn.Module:
    sizes = {"d_model": 16, "num_attention_heads": 2, "num_hidden_layers": 2, "ffn_dim": 32, "patch_length": 4}
    options = {"num_input_channels": 12, "context_length": 3 * 8, "patch_stride": 4, "prediction_length": 4}
    module = hugging("PatchTSTForPrediction", "PatchTSTConfig", **sizes, **options)
    return Applied(module, lambda m, x: m(x.repeat(1, 8, 1)).prediction_outputs)
