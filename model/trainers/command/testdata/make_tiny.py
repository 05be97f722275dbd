"""Writes two random models, OUT/text (Llama) and OUT/vision (LLaVA), of about a million parameters,
with a byte-level tokenizer trained on a few lines: what real trainers are tested on."""
import random
import sys

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (CLIPImageProcessor, CLIPVisionConfig, LlamaConfig, LlamaForCausalLM, LlavaConfig,
                          LlavaForConditionalGeneration, LlavaProcessor, PreTrainedTokenizerFast)

out = sys.argv[1]
random.seed(0)
torch.manual_seed(0)
words = "rewrite this prompt a fluffy cat on the mat soft light highly detailed score for image 1 2 is better".split()
corpus = [" ".join(random.choices(words, k=12)) for _ in range(500)]
bpe = Tokenizer(models.BPE())
bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
bpe.decoder = decoders.ByteLevel()
bpe.train_from_iterator(corpus, trainers.BpeTrainer(
    vocab_size=512, special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<pad>", "<image>"],
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<pad>",
                                    bos_token="<|im_start|>", unk_token="<|endoftext|>")
tokenizer.model_max_length = 2048
turn = "<|im_start|>{{ m['role'] }}\n@<|im_end|>\n"
text = "{{ m['content'] }}"
parts = ("{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}"
         "{% if c['type'] == 'image' %}<image>{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}")
template = ("{% for m in messages %}" + turn + "{% endfor %}"
            "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
ids = dict(bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
llama = LlamaConfig(vocab_size=len(tokenizer), hidden_size=128, intermediate_size=512, num_hidden_layers=4,
                    num_attention_heads=4, max_position_embeddings=2048, tie_word_embeddings=True, **ids)

tokenizer.chat_template = template.replace("@", text)
tokenizer.save_pretrained(out + "/text")
LlamaForCausalLM(llama).save_pretrained(out + "/text")

pictures = CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
tokenizer.chat_template = None
processor = LlavaProcessor(image_processor=pictures, tokenizer=tokenizer, patch_size=14, num_additional_image_tokens=1,
                           vision_feature_select_strategy="default", image_token="<image>", chat_template=template.replace("@", parts))
llama.tie_word_embeddings = False
vision = LlavaForConditionalGeneration(LlavaConfig(
    vision_config=CLIPVisionConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
                                   image_size=28, patch_size=14, projection_dim=32),
    text_config=llama, image_token_id=tokenizer.convert_tokens_to_ids("<image>"), vision_feature_layer=-2,
    vision_feature_select_strategy="default", image_seq_length=4))
vision.generation_config.eos_token_id = tokenizer.eos_token_id
vision.generation_config.pad_token_id = tokenizer.pad_token_id
vision.save_pretrained(out + "/vision")
processor.save_pretrained(out + "/vision")
