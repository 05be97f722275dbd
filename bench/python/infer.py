"""The embedded models on onnxruntime in Python: python infer.py pictures|tokens FOLDER BATCH prints {"per_cpu_s"}.

One thread, NumPy for the rest. Token ids are made up: tokenising, chat templates and PNG are left out, in Python's favour."""
import json
import os
import resource
import sys
import time

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # as promptmill does

import numpy as np
import onnxruntime as ort

LEAST = 3.0  # seconds


def session(*path):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(os.path.join(*path), options, providers=["CPUExecutionProvider"])


def pictures(folder, batch):
    text, unet, vae = (session(folder, name, "model.onnx") for name in ("text_encoder", "unet", "vae_decoder"))
    scale = json.load(open(os.path.join(folder, "vae_decoder", "config.json")))["scaling_factor"]
    shape = [d.shape for d in unet.get_inputs() if d.name == "sample"][0][1:]
    ids_input = text.get_inputs()[0]
    kind = np.int32 if "int32" in ids_input.type else np.int64
    length = ids_input.shape[1] if isinstance(ids_input.shape[1], int) else 48
    time_input = [d for d in unet.get_inputs() if d.name == "timestep"][0]
    time_kind = np.float32 if "float" in time_input.type else np.int64
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=np.float64) ** 2
    alphas = np.cumprod(1 - betas).astype(np.float32)
    steps = [1 + 50 * i for i in range(20)][::-1]
    rng = np.random.default_rng(1)

    def states(n):
        ids = rng.integers(12, 2000, (n, length)).astype(kind)
        return text.run(["last_hidden_state"], {ids_input.name: ids})[0]

    empty = states(1)

    def draw():
        hidden = np.concatenate([np.repeat(empty, batch, 0), states(batch)])
        x = rng.standard_normal((batch, *shape)).astype(np.float32)
        for i, t in enumerate(steps):
            when = np.array(t, time_kind) if len(time_input.shape) == 0 else np.full(2 * batch if time_input.shape[0] != 1 else 1, t, time_kind)
            e = unet.run(None, {"sample": np.concatenate([x, x]), "timestep": when, "encoder_hidden_states": hidden})[0]
            e = e[:batch] + 2 * (e[batch:] - e[:batch])
            a, after = alphas[t], alphas[steps[i + 1]] if i + 1 < len(steps) else np.float32(1)
            x0 = (x - np.sqrt(1 - a) * e) / np.sqrt(a)
            x = np.sqrt(after) * x0 + np.sqrt(1 - after) * e
        for one in x:
            img = vae.run(None, {vae.get_inputs()[0].name: one[None] / np.float32(scale)})[0]
            np.rint(np.clip(img / 2 + 0.5, 0, 1) * 255).astype(np.uint8)
        return batch

    return draw


def tokens(folder, batch):
    embed, decoder = (session(folder, "onnx", name + ".onnx") for name in ("embed_tokens", "decoder_model_merged"))
    past = [d for d in decoder.get_inputs() if d.name.startswith("past_key_values")]
    wants = {d.name for d in decoder.get_inputs()}
    outputs = [o.name for o in decoder.get_outputs()]
    rng = np.random.default_rng(1)

    def step(ids, cache, total):
        n = ids.shape[1]
        feeds = dict(cache, inputs_embeds=embed.run(None, {"input_ids": ids})[0])
        if "attention_mask" in wants:
            feeds["attention_mask"] = np.ones((batch, total), np.int64)
        if "position_ids" in wants:
            feeds["position_ids"] = np.tile(np.arange(total - n, total, dtype=np.int64), (batch, 1))
        if "num_logits_to_keep" in wants:
            feeds["num_logits_to_keep"] = np.ones([1] * len([d for d in decoder.get_inputs() if d.name == "num_logits_to_keep"][0].shape), np.int64)
        out = dict(zip(outputs, decoder.run(None, feeds)))
        return out["logits"][:, -1], {d.name: out[d.name.replace("past_key_values", "present")] for d in past}

    def answer():
        empty = {d.name: np.zeros((batch, d.shape[1], 0, d.shape[3]), np.float32) for d in past}
        logits, cache = step(rng.integers(12, 2000, (batch, 32)).astype(np.int64), empty, 32)
        for i in range(40):
            ids = logits.argmax(-1)[:, None].astype(np.int64)
            if i < 39:
                logits, cache = step(ids, cache, 33 + i)
        return batch * 40

    return answer


def main():
    one = {"pictures": pictures, "tokens": tokens}[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
    one()
    cpu = lambda: sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    begin, start, total = cpu(), time.time(), 0
    while time.time() - start < LEAST:
        total += one()
    print(json.dumps({"per_cpu_s": total / (cpu() - begin)}))


main()
