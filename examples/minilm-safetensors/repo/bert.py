"""The BERT encoder, for inference only. Parameters have the same names as in the safetensors file."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class BertConfig:
    """The part of a BERT ``config.json`` that shapes the encoder."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    type_vocab_size: int
    layer_norm_eps: float


def empty_table(rows: int, size: int) -> nn.Embedding:
    """Create an embedding without initialising it, which takes PyTorch 1.5 s even on the meta device."""
    return nn.Embedding.from_pretrained(torch.empty(rows, size))


class Embeddings(nn.Module):
    """The sum of the word, position and segment embeddings of every token."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.word_embeddings = empty_table(config.vocab_size, config.hidden_size)
        self.position_embeddings = empty_table(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = empty_table(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)

    def forward(self, ids: Tensor) -> Tensor:
        positions = self.position_embeddings.weight[: ids.shape[1]]
        segment = self.token_type_embeddings.weight[0]  # each row is one text: always the first segment
        return self.LayerNorm(self.word_embeddings(ids) + positions + segment)


class SelfAttention(nn.Module):
    """Every token attends to the tokens in the mask."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        query, key, value = (self.split(layer(hidden)) for layer in (self.query, self.key, self.value))
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return attended.transpose(1, 2).flatten(2)

    def split(self, hidden: Tensor) -> Tensor:
        """Reshape [batch, token, hidden] to [batch, head, token, hidden / heads]."""
        return hidden.unflatten(2, (self.heads, -1)).transpose(1, 2)


class AddNorm(nn.Module):
    """A projection with a residual connection and layer normalisation."""

    def __init__(self, size_in: int, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(size_in, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)

    def forward(self, hidden: Tensor, before: Tensor) -> Tensor:
        return self.LayerNorm(self.dense(hidden) + before)


class Layer(nn.Module):
    """Attention, then a feed-forward network."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.attention = nn.ModuleDict({"self": SelfAttention(config), "output": AddNorm(config.hidden_size, config)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(config.hidden_size, config.intermediate_size)})
        self.output = AddNorm(config.intermediate_size, config)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        attended = self.attention["output"](self.attention["self"](hidden, mask), hidden)
        return self.output(functional.gelu(self.intermediate["dense"](attended)), attended)


class Bert(nn.Module):
    """Map token ids and their mask, both [batch, token], to one vector for each token."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.embeddings = Embeddings(config)
        layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.encoder = nn.ModuleDict({"layer": layers})

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        visible = mask.to(torch.bool)[:, None, None, :]
        hidden: Tensor = self.embeddings(ids)
        for layer in self.encoder["layer"]:
            hidden = layer(hidden, visible)
        return hidden
