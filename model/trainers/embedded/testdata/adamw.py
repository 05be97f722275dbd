"""Reference numbers for AdamW and its clipping: python adamw.py > adamw.json (PyTorch 2.15, CPU)."""
import json
import torch

torch.manual_seed(3)
cases = []
for name, betas, eps, decay, clip, rates in [
    ("plain", (0.9, 0.999), 1e-8, 0.0, 0.0, [1e-3] * 4),
    ("decay and clipping", (0.9, 0.95), 1e-8, 0.1, 0.5, [1e-2, 2e-2, 1.5e-2, 1e-3]),
    ("large epsilon", (0.5, 0.9), 1e-2, 0.01, 100.0, [0.1, 0.1, 0.1, 0.1]),
]:
    w = [torch.nn.Parameter(torch.randn(3, 2)), torch.nn.Parameter(torch.randn(4))]
    case = dict(name=name, beta1=betas[0], beta2=betas[1], epsilon=eps, weight_decay=decay, clip_norm=clip,
                start=[x.detach().flatten().tolist() for x in w], steps=[])
    opt = torch.optim.AdamW(w, lr=1.0, betas=betas, eps=eps, weight_decay=decay)
    for rate in rates:
        grads = [torch.randn_like(x) for x in w]
        for x, g in zip(w, grads):
            x.grad = g.clone()
        norm = torch.nn.utils.clip_grad_norm_(w, clip or 1e9).item()
        for group in opt.param_groups:
            group["lr"] = rate
        opt.step()
        case["steps"].append(dict(rate=rate, gradients=[g.flatten().tolist() for g in grads], norm=norm,
                                  weights=[x.detach().flatten().tolist() for x in w]))
    cases.append(case)
print(json.dumps(cases))
