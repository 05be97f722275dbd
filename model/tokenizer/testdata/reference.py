"""Makes what the tests compare with, by the reference library: pip install tokenizers==0.23.3; python reference.py

llama2style_tokenizer.json and gemmastyle_tokenizer.json are trained here on the repository's prompts.
"""
import gzip, hashlib, json, random
import tokenizers
from tokenizers import Tokenizer, models, trainers, pre_tokenizers, normalizers, decoders, processors, AddedToken

PROMPTS = "../../../testdata/prompts/"
HARD = json.load(open("encodings.json"))["strings"]


def committed():
    for name in ("sd_prompts.jsonl", "geneval.jsonl"):
        yield from (json.loads(line)["prompt"] for line in open(PROMPTS + name, encoding="utf-8"))
    for line in open(PROMPTS + "pairs.jsonl", encoding="utf-8"):
        row = json.loads(line)
        yield from (row["raw"], row["rewritten"])
    lines = open(PROMPTS + "parti_prompts.tsv", encoding="utf-8").read().split("\n")
    yield from (line.split("\t")[0] for line in lines[1:] if line)
    for line in gzip.open(PROMPTS + "sd_prompts_all.jsonl.gz", "rt", encoding="utf-8"):
        yield json.loads(line)["prompt"]


def digest(tk, texts):
    h, n = hashlib.sha256(), 0
    for text in texts:
        ids = tk.encode(text).ids
        n += len(ids)
        h.update((",".join(map(str, ids)) + "\n").encode())
    return {"ids": n, "sha256": h.hexdigest()}


def rows(tk, texts):
    out = []
    for s in texts:
        ids, bare = tk.encode(s).ids, tk.encode(s, add_special_tokens=False).ids
        out.append({"ids": ids, "ids_nospecial": bare, "decoded": tk.decode(bare, skip_special_tokens=False),
                    "decoded_skip": tk.decode(ids, skip_special_tokens=True)})
    return out


def sentencepiece(name, normalizer, pre, decoder, specials, post=None):
    tk = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tk.normalizer, tk.decoder = normalizer, decoder
    if pre:
        tk.pre_tokenizer = pre
    letters = [chr(c) for c in range(33, 127)] + ["\u2581", "é", "д", "東"]
    tk.train_from_iterator(sorted(set(committed())) if pre else [w for p in sorted(set(committed())) for w in p.split()],
                           trainers.BpeTrainer(vocab_size=1500, initial_alphabet=letters, limit_alphabet=len(letters),
                                               special_tokens=["<unk>", "<s>", "</s>"] + ["<0x%02X>" % b for b in range(256)]))
    if post:
        tk.post_processor = post
    tk.add_special_tokens(specials)
    # the trainer made special tokens of the bytes; published files have them in the vocabulary only
    f = json.loads(tk.to_str())
    f["added_tokens"] = [a for a in f["added_tokens"] if not a["content"].startswith("<0x")]
    tk = Tokenizer.from_str(json.dumps(f))
    tk.save(name + "_tokenizer.json")
    return tk


def llama2():
    return sentencepiece(
        "llama2style", normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]), None,
        decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]),
        [], processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]))


def gemma():
    return sentencepiece(
        "gemmastyle", normalizers.Replace(" ", "\u2581"), pre_tokenizers.Split(" ", "merged_with_previous"),
        decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]),
        [AddedToken("<start_of_turn>", special=True), AddedToken("<image>", special=True, lstrip=True, rstrip=True)],
        processors.TemplateProcessing(single="<s> $A </s>", pair="$A $B", special_tokens=[("<s>", 1), ("</s>", 2)]))


# A vocabulary of bytes alone, with an end of word, shows every step: the ids spell the words.
BYTES = {"<0x%02X>" % b: b for b in range(256)}
FINE = HARD + ["Hello, world! 12 34.5", "a<b>c  <b> d<B>e", " x<c>  y", "word<w>word <w> wordx", "<b><c><w>", "e" + "\u0301\u0323\u0307" * 20,
               "q" + "\u0323" * 40 + "\u0301", "\u1100\u1161\u11a8 \uac00\u11a8", "\u212b \u2126 \u0344 \u0958", "IT\u017f 's'\u017f 'K\u212a", "a\u0085b\u3000c",
               "\u0915\u094d\u0937\u093f \u0e01\u0e33", "¿qué? «sí» 5€ + $3 ^~`|<>=", "\u00bd\u2167\u0be7 a_b\u203fc", "  lead", "trail  ", "x \u2581y\u2581 z"]


def step(name, normalizer=None, pre=None, added=()):
    f = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": normalizer, "pre_tokenizer": pre,
         "post_processor": None, "decoder": None,
         "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": "</w>",
                   "fuse_unk": False, "byte_fallback": True, "ignore_merges": False, "vocab": BYTES, "merges": []}}
    for i, (content, over) in enumerate(added):
        f["added_tokens"].append({"id": 256 + i, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
                                  "normalized": False, "special": False, **over})
    tk = Tokenizer.from_str(json.dumps(f))
    out = []
    for s in FINE:
        run, text = b"", ""
        for i in tk.encode(s).ids:
            if i < 256:
                run += bytes([i])
            else:
                text += run.decode() + "{%d}" % i
                run = b""
        out.append(text + run.decode())
    return {"name": name, "normalizer": normalizer, "pre_tokenizer": pre, "added_tokens": f["added_tokens"], "words": out}


def seq(kind, *nodes):
    return {"type": "Sequence", kind: list(nodes)}


def regex(p, behavior="Isolated", invert=False):
    return {"type": "Split", "pattern": {"Regex": p}, "behavior": behavior, "invert": invert}


def steps():
    ws = {"type": "WhitespaceSplit"}
    for n in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents"):
        yield step(n, {"type": n}, ws)
    yield step("NFD StripAccents Lowercase", seq("normalizers", {"type": "NFD"}, {"type": "StripAccents"}, {"type": "Lowercase"}))
    for accents, low in ((None, True), (False, True), (True, False), (None, False)):
        yield step("Bert %s %s" % (accents, low), {"type": "BertNormalizer", "clean_text": not accents, "handle_chinese_chars": low,
                                                   "strip_accents": accents, "lowercase": low})
    for left, right in ((True, False), (False, True), (True, True)):
        yield step("Strip %s %s" % (left, right), {"type": "Strip", "strip_left": left, "strip_right": right})
    yield step("Prepend", {"type": "Prepend", "prepend": "\u2581"})
    yield step("Replace string", {"type": "Replace", "pattern": {"String": "  "}, "content": "<$1>"})
    yield step("Replace regex", {"type": "Replace", "pattern": {"Regex": r"[aeiou]+|\d*"}, "content": "_"})
    for b in ("Removed", "Isolated", "Contiguous", "MergedWithPrevious", "MergedWithNext"):
        yield step("Split " + b, None, regex(r"[a-m ]", b))
        yield step("Split invert " + b, None, regex(r"[a-m ]", b, True))
        yield step("Punctuation " + b, None, {"type": "Punctuation", "behavior": b})
    yield step("Split string", None, {"type": "Split", "pattern": {"String": "a"}, "behavior": "MergedWithNext", "invert": False})
    for p in (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
              r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
              r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
              r"\w+|[^\w\s]+", r"\d", r"\W", r"^.", r"(?i)[a-z]+(?-i)X?", r"(?<=[A-Z])(?=[a-z])", r"\bw", r".$", r"(?:ab|a)++b|x{2,}|{", r"\S*?e"):
        yield step("Split " + p, None, regex(p))
    for n in ("Whitespace", "WhitespaceSplit"):
        yield step(n, None, {"type": n})
    yield step("Digits", None, {"type": "Digits", "individual_digits": False})
    yield step("Digits individual", None, {"type": "Digits", "individual_digits": True})
    for scheme in ("always", "first", "never"):
        for split in (True, False):
            meta = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": split}
            yield step("Metaspace %s %s" % (scheme, split), None, meta, [("<b>", {})])
            yield step("Whitespace Metaspace %s %s" % (scheme, split), None, seq("pretokenizers", ws, meta))
    for prefix in (True, False):
        for use in (True, False):
            b = {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": use}
            yield step("ByteLevel %s %s" % (prefix, use), None, b)
            yield step("Digits ByteLevel %s %s" % (prefix, use), None, seq("pretokenizers", {"type": "Digits", "individual_digits": True}, b))
    low = {"type": "Lowercase"}
    for flag in ("single_word", "lstrip", "rstrip", "normalized"):
        yield step("added " + flag, low, ws, [("<b>", {flag: True}), ("<c>", {flag: True}), ("w", {flag: True}), (" x", {}), ("<B>", {"normalized": True})])
    yield step("added prepend", seq("normalizers", {"type": "Prepend", "prepend": "_"}, low), None, [("<b>", {"normalized": True}), ("<c>", {}), ("or", {})])


TOKENS = ["a", "\u2581b", "b\u2581\u2581c", "</w>", "d</w>", "\u0120e", "\u00e2\u0122", "\u00ac", "\u00c3", "é", " ", "  f ", "<s>", "<0xE2>", "<0x82>", "<0xAC>",
          "<0xF0>", "<0x9F>", "<0x41>", "<0xZZ>", "東", "\u00e6\u013f", "\u00b1"]
DECODERS = [
    None, {"type": "ByteLevel"}, {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "BPEDecoder", "suffix": "</w>"},
    {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "Replace", "pattern": {"Regex": "[a-c]+"}, "content": "-"},
    {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True},
    {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "never", "split": True},
    {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    seq("decoders", {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 2, "stop": 0}),
]
for d in DECODERS:
    if d and d["type"] == "ByteLevel":
        d.update(add_prefix_space=True, trim_offsets=True, use_regex=True)


def decoding():
    rng = random.Random(4)
    lists = [[i] for i in range(len(TOKENS))] + [[rng.randrange(len(TOKENS) + 1) for _ in range(rng.randrange(2, 9))] for _ in range(40)]
    for d in DECODERS:
        f = {"version": "1.0", "truncation": None, "padding": None, "normalizer": None, "pre_tokenizer": None, "post_processor": None, "decoder": d,
             "added_tokens": [{"id": 12, "content": "<s>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}],
             "model": {"type": "BPE", "vocab": {t: i for i, t in enumerate(TOKENS)}, "merges": []}}
        tk = Tokenizer.from_str(json.dumps(f))
        yield {"decoder": d, "lists": lists, "texts": [tk.decode(x, skip_special_tokens=False) for x in lists],
               "skipped": ["" if x == [12] else tk.decode(x, skip_special_tokens=True) for x in lists]}


def save(name, value):
    json.dump(value, open(name, "w", encoding="utf-8"), ensure_ascii=False, separators=(",", ":"))


if __name__ == "__main__":
    named = {"llama2style": llama2(), "gemmastyle": gemma()}
    for n in ("clip", "bytelevel", "qwen2style"):
        named[n] = Tokenizer.from_file(n + "_tokenizer.json")
    save("sentencepiece.json", {"strings": FINE, "enc": {n: rows(named[n], FINE) for n in ("llama2style", "gemmastyle")}})
    save("steps.json", {"strings": FINE, "steps": list(steps())})
    save("decoding.json", {"tokens": TOKENS, "cases": list(decoding())})
    texts = list(committed())
    save("digests.json", {"tokenizers": tokenizers.__version__, "prompts": len(texts), "digests": {n: digest(t, texts) for n, t in named.items()}})
    print(len(texts), json.dumps({n: digest(t, texts) for n, t in named.items()}))
