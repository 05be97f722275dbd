"""DPO steps of bench/train.go's decoder in PyTorch: python train.py STEPS prints {"cpu_ms", "loss", "parameters", "torch"}.

One thread, stored log-probabilities of the reference, logits of the answers' tokens only, fused attention and optimiser."""
import json
import math
import statistics
import sys
import time

import torch
import torch.nn.functional as F

D, LAYERS, HEADS, VOCABULARY, PAIRS, PROMPT, ANSWER = 128, 4, 4, 4096, 8, 32, 32
LENGTH = PROMPT + ANSWER

torch.manual_seed(1)
torch.set_num_threads(1)


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = torch.nn.LayerNorm(D), torch.nn.LayerNorm(D)
        self.qkv, self.out = torch.nn.Linear(D, 3 * D), torch.nn.Linear(D, D)
        self.up, self.down = torch.nn.Linear(D, 4 * D), torch.nn.Linear(4 * D, D)

    def forward(self, x):
        b, t, _ = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, t, 3, HEADS, D // HEADS).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, D))
        return x + self.down(F.silu(self.up(self.norm2(x))))


class Decoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(VOCABULARY, D)
        self.position = torch.nn.Embedding(LENGTH, D)
        self.blocks = torch.nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = torch.nn.LayerNorm(D)
        torch.nn.init.normal_(self.table.weight, std=0.02)

    def logp(self, ids):
        x = self.table(ids[:, :-1]) + self.position.weight[: LENGTH - 1]
        for b in self.blocks:
            x = b(x)
        logits = self.norm(x[:, PROMPT - 1:]) @ self.table.weight.T
        return -F.cross_entropy(logits.flatten(0, 1), ids[:, PROMPT:].flatten(), reduction="none").view(-1, ANSWER).sum(1)


def main(steps):
    m = Decoder()
    prompts = torch.randint(0, VOCABULARY, (PAIRS, PROMPT))
    ids = torch.cat([torch.cat([prompts, torch.randint(0, VOCABULARY, (PAIRS, ANSWER))], 1) for _ in range(2)])
    with torch.no_grad():
        reference = m.logp(ids)
    opt = torch.optim.AdamW(m.parameters(), lr=1e-4, betas=(0.9, 0.999), weight_decay=0.0, fused=True)
    times = []
    for _ in range(steps):
        begin = time.process_time()
        opt.zero_grad()
        gain = m.logp(ids) - reference
        loss = -F.logsigmoid(0.1 * (gain[:PAIRS] - gain[PAIRS:])).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(m.parameters(), 1.0)
        opt.step()
        times.append(time.process_time() - begin)
    print(json.dumps(dict(cpu_ms=1000 * statistics.median(times[2:]), loss=loss.item(),
                          parameters=sum(p.numel() for p in m.parameters()), tool="PyTorch " + torch.__version__)))


main(int(sys.argv[1]))
