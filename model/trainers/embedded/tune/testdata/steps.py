"""Fifty steps of DPO and of SFT on a small vision-language model in PyTorch: python steps.py > steps.json (PyTorch 2.15, CPU).

The model is that of folder_test.go, weight by weight: both draw them from the same generator."""
import json
import math

import torch
import torch.nn.functional as F

D, HEADS, LAYERS, CONTEXT, SIDE, PLACES, VOCABULARY = 16, 2, 2, 160, 8, 3, 263
IMAGE = 259


def draw(name, n):
    x = 2166136261
    for c in name.encode():
        x = ((x ^ c) * 16777619) % 2**32
    out = []
    for _ in range(n):
        x = (x * 1664525 + 1013904223) % 2**32
        out.append((x >> 8) / 2**23 - 1)
    return torch.tensor(out, dtype=torch.float32)


def weight(name, scale, *dims):
    w = (draw(name, math.prod(dims)) * scale).reshape(dims)
    if w.numel() >= 64:  # the folder stores these in half precision
        w = w.half().float()
    return torch.nn.Parameter(w)


def model():
    w = {"table": weight("table", 1, VOCABULARY, D), "positions": weight("positions", 0.5, CONTEXT, D),
         "project": weight("project", 0.1, 3 * SIDE * SIDE, PLACES * D), "norm.scale": weight("norm.scale", 1, D), "norm.bias": weight("norm.bias", 0.2, D)}
    for i in range(LAYERS):
        for name, scale, dims in (("norm1.scale", 1, (D,)), ("norm1.bias", 0.2, (D,)), ("q", 0.4, (D, D)), ("key", 0.4, (D, D)), ("value", 0.4, (D, D)),
                                  ("o", 0.4, (D, D)), ("norm2.scale", 1, (D,)), ("norm2.bias", 0.2, (D,)), ("up", 0.4, (D, 4 * D)), ("down", 0.2, (4 * D, D))):
            w[f"layers.{i}.{name}"] = weight(f"layers.{i}.{name}", scale, *dims)
    return w


def logp(w, row, answer):
    """The log-probability of each token of the answer."""
    ids = torch.tensor(row["prompt"] + answer[:-1])
    x = w["table"][ids]
    if row["pictures"]:
        pixels = torch.stack([draw(p, 3 * SIDE * SIDE) for p in row["pictures"]])
        x = x.index_put((torch.tensor(row["slots"]),), (pixels @ w["project"]).reshape(-1, D))
    n = len(ids)
    x = x + w["positions"][:n]
    norm = lambda x, name: F.layer_norm(x, (D,), w[name + ".scale"], w[name + ".bias"])
    heads = lambda x: x.view(n, HEADS, D // HEADS).transpose(0, 1)
    for i in range(LAYERS):
        name = f"layers.{i}."
        h = norm(x, name + "norm1")
        q, k, v = (heads(h @ w[name + s]) for s in ("q", "key", "value"))
        scores = q @ k.transpose(1, 2) / math.sqrt(D // HEADS) + torch.full((n, n), -1e9).triu(1)
        x = x + (scores.softmax(-1) @ v).transpose(0, 1).reshape(n, D) @ w[name + "o"]
        up = norm(x, name + "norm2") @ w[name + "up"]
        x = x + F.silu(up) @ w[name + "down"]
    logits = norm(x[len(row["prompt"]) - 1:], "norm") @ w["table"].T
    return logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None])[:, 0]


def rows():
    g = torch.Generator().manual_seed(3)
    some = lambda low, high: torch.randint(32, 127, (int(torch.randint(low, high, (1,), generator=g)),), generator=g).tolist()
    out = []
    for i in range(8):
        prompt, slots, pictures = [257] + some(8, 40), [], []
        if i % 2:
            pictures = [f"picture {i}", f"picture {i + 1}"]
            slots = list(range(len(prompt), len(prompt) + 2 * PLACES))
            prompt += [IMAGE] * (2 * PLACES)
        out.append(dict(prompt=prompt + [262], slots=slots, pictures=pictures, chosen=some(4, 24) + [258], rejected=some(4, 24) + [258]))
    return out


def dpo(w, batch, reference, beta, alpha):
    losses = []
    for row, (c, r) in zip(batch, reference):
        chosen, rejected = logp(w, row, row["chosen"]), logp(w, row, row["rejected"])
        margin = beta * (chosen.sum() - c - rejected.sum() + r)
        losses.append(-F.logsigmoid(margin) - alpha * chosen.mean())
    return torch.stack(losses).mean()


def sft(w, batch):
    all = torch.cat([logp(w, row, row["chosen"]) for row in batch])
    return -all.mean()


def curve(loss, steps=50, peak=3e-3, warmup=5):
    w = model()
    plain = [v for v in w.values() if v.dim() < 2]
    opt = torch.optim.AdamW([dict(params=[v for v in w.values() if v.dim() >= 2], weight_decay=0.1), dict(params=plain, weight_decay=0.0)], lr=peak, betas=(0.9, 0.95))
    out, norms = [], []
    for t in range(steps):
        for group in opt.param_groups:
            group["lr"] = peak * min(1, (t + 1) / warmup) * (1 + math.cos(math.pi * t / steps)) / 2
        opt.zero_grad()
        value = loss(w)
        value.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(w.values(), 1.0).item())
        opt.step()
        out.append(value.item())
    return dict(loss=out, norm=norms)


torch.set_num_threads(1)
batch = rows()
with torch.no_grad():
    w = model()
    reference = [[logp(w, r, r[a]).sum().item() for a in ("chosen", "rejected")] for r in batch]
print(json.dumps(dict(rows=batch, reference=reference, dpo=curve(lambda w: dpo(w, batch, reference, 0.1, 0.0)),
                      nll=curve(lambda w: dpo(w, batch, reference, 0.5, 0.2)), sft=curve(lambda w: sft(w, batch)))))
