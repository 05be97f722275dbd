"""One training step of a small decoder in PyTorch: python decoder.py > decoder.json (PyTorch 2.15, CPU).

python decoder.py time BATCH LENGTH WIDTH HEADS LAYERS VOCABULARY prints the CPU time of a step on one thread."""
import json
import math
import sys
import time

import torch
import torch.nn.functional as F


def weights(length, d, layers, vocabulary):
    r = lambda *shape, scale=0.3: torch.nn.Parameter(torch.randn(*shape) * scale)
    w = {"embed": r(vocabulary, d), "position": r(length, d)}
    for i in range(layers):
        w |= {f"{i}.norm1.scale": torch.nn.Parameter(1 + 0.1 * torch.randn(d)), f"{i}.norm1.bias": r(d),
              f"{i}.qkv": r(d, 3 * d), f"{i}.qkv.bias": r(3 * d), f"{i}.out": r(d, d), f"{i}.out.bias": r(d),
              f"{i}.norm2.scale": torch.nn.Parameter(1 + 0.1 * torch.randn(d)), f"{i}.norm2.bias": r(d),
              f"{i}.up": r(d, 4 * d), f"{i}.up.bias": r(4 * d), f"{i}.down": r(4 * d, d), f"{i}.down.bias": r(d)}
    w |= {"norm.scale": torch.nn.Parameter(1 + 0.1 * torch.randn(d)), "norm.bias": r(d)}
    return w


def loss(w, ids, labels, heads, layers, attention):
    b, t = ids.shape
    d = w["embed"].shape[1]
    norm = lambda x, name: F.layer_norm(x, (d,), w[name + ".scale"], w[name + ".bias"])
    linear = lambda x, name: F.linear(x, w[name].T, w[name + ".bias"])
    x = w["embed"][ids] + w["position"]
    for i in range(layers):
        q, k, v = linear(norm(x, f"{i}.norm1"), f"{i}.qkv").view(b, t, 3, heads, d // heads).permute(2, 0, 3, 1, 4)
        if attention == "fused":
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            mask = torch.full((t, t), -1e9).triu(1)
            y = (q @ k.transpose(-1, -2) / math.sqrt(d // heads) + mask).softmax(-1) @ v
        x = x + linear(y.transpose(1, 2).reshape(b, t, d), f"{i}.out")
        x = x + linear(F.silu(linear(norm(x, f"{i}.norm2"), f"{i}.up")), f"{i}.down")
    logits = norm(x, "norm") @ w["embed"].T
    return F.cross_entropy(logits.reshape(b * t, -1), labels.reshape(-1), ignore_index=-100)


torch.manual_seed(5)
if len(sys.argv) > 1:
    torch.set_num_threads(1)
    batch, length, d, heads, layers, vocabulary = map(int, sys.argv[2:])
    w = weights(length, d, layers, vocabulary)
    opt = torch.optim.AdamW(w.values(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1)
    ids, labels = torch.randint(0, vocabulary, (batch, length)), torch.randint(0, vocabulary, (batch, length))
    for attention in "plain", "fused":
        times = []
        for _ in range(12):
            begin = time.process_time()
            opt.zero_grad()
            loss(w, ids, labels, heads, layers, attention).backward()
            torch.nn.utils.clip_grad_norm_(w.values(), 1.0)
            opt.step()
            times.append(time.process_time() - begin)
        print(attention, "attention:", round(1000 * sorted(times)[len(times) // 2], 1), "ms a step", sum(v.numel() for v in w.values()), "parameters")
else:
    w = weights(5, 8, 2, 11)
    ids, labels = torch.randint(0, 11, (2, 5)), torch.randint(0, 11, (2, 5))
    labels[0, :2] = -100
    value = loss(w, ids, labels, 2, 2, "plain")
    value.backward()
    numbers = lambda x: [float(f"{v:.7g}") for v in x.detach().flatten()]
    print(json.dumps(dict(ids=ids.flatten().tolist(), labels=labels.flatten().tolist(), loss=value.item(), weights=[
        dict(name=k, dims=list(v.shape), start=numbers(v), gradient=numbers(v.grad)) for k, v in w.items()])))
