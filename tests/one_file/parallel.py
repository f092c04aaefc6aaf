"""An architecture of one's own: an MLP without a gate, whose weights are stored four times."""

from __future__ import annotations

from pruninfersim.models import ModelConfig
from pruninfersim.models.architectures import Row, Rows
from pruninfersim.workload import Workload


class ParallelConfig(ModelConfig):
    experts: int = 4

    def rows(self, workload: Workload, dtype: str) -> list[Row]:
        make, layers = Rows.of(workload, dtype), range(self.num_layers)
        hidden, ffn = self.hidden_size, self.intermediate_size
        return [
            make.elementwise("embedding", "embedding", "embedding", (), hidden, "hidden"),
            make.norm("attn_norm", "attention", layers, hidden),
            make.gemm("q", "attention", layers, self.q_size, hidden, "heads", "hidden"),
            make.gemm("k", "attention", layers, self.kv_size, hidden, "kv_heads", "hidden"),
            make.gemm("v", "attention", layers, self.kv_size, hidden, "kv_heads", "hidden"),
            make.attention(layers, self.num_heads, self.num_kv_heads, self.head_dim),
            make.gemm("o", "attention", layers, hidden, self.q_size, "hidden", "heads"),
            make.norm("mlp_norm", "mlp", layers, hidden),
            make.gemm("up", "mlp", layers, ffn, hidden, "ffn", "hidden", b_batch=self.experts),
            make.gemm("down", "mlp", layers, hidden, ffn, "hidden", "ffn", b_batch=self.experts),
            make.norm("final_norm", "head", (), hidden),
            make.head(self.vocab_size, hidden),
        ]


MODEL = ParallelConfig(
    name="parallel-toy", family="parallel", hidden_size=1024, intermediate_size=4096, num_layers=6, num_heads=8,
    num_kv_heads=2, head_dim=128, vocab_size=32000, max_position=8192, reference="made up",
)  # fmt: skip
