"""Beam search of transformers over the graphs of the test model, for beams.json: beams.py FOLDER

FOLDER is the model that the tests build (shape small). The graphs run in ONNX Runtime, without a cache; the search is
transformers' own. Made with transformers 5.23.0, torch 2.15.0, onnxruntime 1.30.0.
"""
import json, os, sys
import numpy as np, onnxruntime as ort, torch
from transformers import GenerationConfig, PretrainedConfig, PreTrainedModel
from transformers.generation import GenerationMixin
from transformers.modeling_outputs import CausalLMOutput

folder = sys.argv[1]
options = ort.SessionOptions()
options.intra_op_num_threads = 1
embed = ort.InferenceSession(f"{folder}/onnx/embed_tokens.onnx", options)
decoder = ort.InferenceSession(f"{folder}/onnx/decoder_model_merged.onnx", options)


class Graphs(PreTrainedModel, GenerationMixin):
    config_class = PretrainedConfig
    main_input_name = "input_ids"

    def __init__(self, config):
        super().__init__(config)
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def prepare_inputs_for_generation(self, input_ids, **kwargs):
        return {"input_ids": input_ids}

    def forward(self, input_ids, return_dict=True, **kwargs):
        ids = input_ids.numpy()
        b, n = ids.shape
        feeds = {
            "inputs_embeds": embed.run(None, {"input_ids": ids})[0],
            "attention_mask": np.ones((b, n), np.int64),
            "position_ids": np.arange(n)[None].repeat(b, 0),
        }
        for i in decoder.get_inputs():
            if i.name.startswith("past"):
                feeds[i.name] = np.zeros((b, i.shape[1], 0, i.shape[3]), np.float32)
        return CausalLMOutput(logits=torch.from_numpy(decoder.run(["logits"], feeds)[0]))


config = PretrainedConfig(vocab_size=263, is_encoder_decoder=False)
config.num_hidden_layers = 1
model = Graphs(config).eval()
PAD, BOS, EOS, USER, ANSWER = 256, 257, 258, 260, 262
cases = []
for text in ["a cat", "a castle in the rain", "robot, neon lights"]:
    ids = [BOS, USER, *text.encode(), ANSWER]
    ids = [PAD] * (-len(ids) % 16) + ids
    for width, penalty, most in [(2, 1.0, 8), (4, 1.0, 12), (4, 0.0, 12), (3, 2.0, 10), (5, -1.0, 10)]:
        for ends in ([EOS], [EOS, 101, 32, 200, 10]):
            out = model.generate(
                torch.tensor([ids]),
                generation_config=GenerationConfig(
                    num_beams=width, num_return_sequences=width, length_penalty=penalty, max_new_tokens=most, early_stopping=False,
                    do_sample=False, eos_token_id=ends, pad_token_id=PAD, use_cache=False, return_dict_in_generate=True, output_scores=True,
                ),
            )
            found = []
            for row, score in zip(out.sequences.tolist(), out.sequences_scores.tolist()):
                answer = row[len(ids):]
                for i, token in enumerate(answer):
                    if token in ends:
                        answer = answer[: i + 1]
                        break
                found.append({"ids": answer, "score": score})
            cases.append({"text": text, "width": width, "length_penalty": penalty, "max_tokens": most, "eos": ends, "found": found})
json.dump(cases, open(os.path.join(os.path.dirname(__file__), "beams.json"), "w"), indent=None, separators=(",", ":"))
for c in cases:
    print(c["text"], c["width"], c["length_penalty"], len(c["eos"]), [(len(f["ids"]), round(f["score"], 3)) for f in c["found"]])
