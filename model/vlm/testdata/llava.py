"""A LLaVA of random weights: its export in the layout of onnx-community, and what transformers answers, for llava/.

Made with transformers 5.23.0, torch 2.15.0 (the TorchScript exporter), onnx 1.23.2, Pillow 13.0.0. Tokens are bytes, and 256 to
262 the special tokens of the test models.
"""
import json, os
import numpy as np, torch
from PIL import Image
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, DynamicCache, GenerationConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration
from transformers.utils.chat_template_utils import render_jinja_template

here = os.path.dirname(os.path.abspath(__file__))
out = here + "/llava"
os.makedirs(out + "/onnx", exist_ok=True)
torch.manual_seed(3)
cfg=LlavaConfig(
  vision_config=CLIPVisionConfig(hidden_size=24,intermediate_size=48,num_hidden_layers=2,num_attention_heads=2,image_size=28,patch_size=14,projection_dim=24,attn_implementation='eager'),
  text_config=LlamaConfig(vocab_size=263,hidden_size=32,intermediate_size=64,num_hidden_layers=2,num_attention_heads=4,num_key_value_heads=2,max_position_embeddings=128,initializer_range=.3,bos_token_id=257,eos_token_id=258,pad_token_id=256),
  image_token_id=259, vision_feature_layer=-2, vision_feature_select_strategy='default', image_seq_length=4)
m=LlavaForConditionalGeneration._from_config(cfg,attn_implementation='eager').eval().float()
for p in m.model.vision_tower.parameters():
    with torch.no_grad(): p.mul_(4.)
for p in m.model.multi_modal_projector.parameters():
    with torch.no_grad(): p.mul_(8.)
class V(torch.nn.Module):
    def __init__(s): super().__init__(); s.m=m
    def forward(s,pixel_values):
        h=s.m.model.vision_tower(pixel_values,output_hidden_states=True).hidden_states[-2][:,1:]
        return s.m.model.multi_modal_projector(h)
class E(torch.nn.Module):
    def __init__(s): super().__init__(); s.e=m.get_input_embeddings()
    def forward(s,input_ids): return s.e(input_ids)
class D(torch.nn.Module):
    def __init__(s): super().__init__(); s.l=m.model.language_model; s.h=m.lm_head
    def forward(s,inputs_embeds,attention_mask,position_ids,k0,v0,k1,v1):
        c=DynamicCache(); c.update(k0,v0,0); c.update(k1,v1,1)
        o=s.l(inputs_embeds=inputs_embeds,attention_mask=attention_mask,position_ids=position_ids,past_key_values=c,use_cache=True)
        r=o.past_key_values
        return s.h(o.last_hidden_state), r.layers[0].keys,r.layers[0].values,r.layers[1].keys,r.layers[1].values
b,s,p=2,3,4
names=[f'past_key_values.{i}.{k}' for i in range(2) for k in ('key','value')]
outs=['logits']+[n.replace('past_key_values','present') for n in names]
kw=dict(dynamo=False,opset_version=17)
torch.onnx.export(V(),(torch.randn(2,3,28,28),),out+'/onnx/vision_encoder.onnx',input_names=['pixel_values'],output_names=['image_features'],dynamic_axes={'pixel_values':{0:'b'},'image_features':{0:'b'}},**kw)
torch.onnx.export(E(),(torch.ones(2,3,dtype=torch.long),),out+'/onnx/embed_tokens.onnx',input_names=['input_ids'],output_names=['inputs_embeds'],dynamic_axes={'input_ids':{0:'b',1:'s'},'inputs_embeds':{0:'b',1:'s'}},**kw)
kv=[torch.randn(b,2,p,8) for _ in range(4)]
ax={'inputs_embeds':{0:'b',1:'s'},'attention_mask':{0:'b',1:'t'},'position_ids':{0:'b',1:'s'},'logits':{0:'b',1:'s'}}
for n in names: ax[n]={0:'b',2:'p'}; ax[n.replace('past_key_values','present')]={0:'b',2:'t'}
torch.onnx.export(D(),(torch.randn(b,s,32),torch.ones(b,s+p,dtype=torch.long),torch.arange(p,p+s)[None].repeat(b,1),*kv),out+'/onnx/decoder_model_merged.onnx',input_names=['inputs_embeds','attention_mask','position_ids']+names,output_names=outs,dynamic_axes=ax,**kw)


def picture(w, h, shade):  # modeltest.Picture
    y, x = np.mgrid[0:h, 0:w]
    return Image.fromarray(np.stack([np.full((h, w), shade), x * 255 // w, y * 255 // h], -1).astype(np.uint8))


processor = CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
keep = ("do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std")
json.dump({k: v for k, v in json.loads(processor.to_json_string()).items() if k in keep}, open(out + "/preprocessor_config.json", "w"))
full = cfg.to_dict()
json.dump({"model_type": "llava", "image_token_index": 259, "text_config": {k: full["text_config"][k] for k in ("max_position_embeddings", "num_attention_heads", "num_key_value_heads", "hidden_size")}}, open(out + "/config.json", "w"))
json.dump({"eos_token_id": 258}, open(out + "/generation_config.json", "w"))
template = open(here + "/templates/llava-1.5.jinja").read()


def encode(text):
    ids = []
    for i, piece in enumerate(text.split("<image>")):
        ids += [259] * (4 if i else 0) + list(piece.encode())
    return ids


cases = []
for sizes, question in [([], "a cat"), ([(40, 30, 9)], "What is it?"), ([(30, 40, 200), (28, 28, 0)], "Which one is better?")]:
    messages = [{"role": "user", "content": [*({"type": "image"} for _ in sizes), {"type": "text", "text": question}]}]
    text = render_jinja_template([messages], chat_template=template, add_generation_prompt=True)[0][0]
    inputs = {"input_ids": torch.tensor([encode(text)])}
    if sizes:
        inputs["pixel_values"] = torch.from_numpy(np.asarray(processor([picture(*s) for s in sizes], return_tensors="np")["pixel_values"]))
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    n = inputs["input_ids"].shape[1]
    common = dict(max_new_tokens=14, eos_token_id=258, pad_token_id=256, do_sample=False, return_dict_in_generate=True, output_scores=True)
    greedy = m.generate(**inputs, generation_config=GenerationConfig(**common)).sequences[0, n:].tolist()
    beams = m.generate(**inputs, generation_config=GenerationConfig(num_beams=3, num_return_sequences=3, **common))
    answer = list(b"sharp focus") + [258]
    whole = {**inputs, "input_ids": torch.tensor([encode(text) + answer])}
    whole["attention_mask"] = torch.ones_like(whole["input_ids"])
    with torch.no_grad():
        logs = m(**whole).logits[0].log_softmax(-1)
    cases.append({
        "pictures": sizes, "question": question, "prompt_tokens": n, "greedy": greedy,
        "beams": [{"ids": b[n:].tolist(), "score": float(s)} for b, s in zip(beams.sequences, beams.sequences_scores)],
        "log_probs": [float(logs[n - 1 + i, t]) for i, t in enumerate(answer)],
    })
    print(cases[-1])
json.dump(cases, open(out + "/expected.json", "w"), indent=1)
