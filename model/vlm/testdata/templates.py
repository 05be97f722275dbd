"""What transformers makes of conversations with published chat templates, for templates.json.

Made with transformers 5.23.0 and Jinja2 3.1.6. The date that Llama's template would ask the clock for is given.
"""
import glob, json, os
from transformers.utils.chat_template_utils import render_jinja_template

here = os.path.dirname(os.path.abspath(__file__))
text = lambda t: {"type": "text", "text": t}
image = {"type": "image"}
hard = 'a <cat> & "dog"\n in the rain,\té ß 夜の城 {{ x }} {% if %} with seven or eight more words here, and some that are too many '
conversations = [
    [("user", [text("a cat")])],
    [("user", [image, text(hard), image])],
    [("system", [text("rewrite shortly")]), ("user", [text("Image 1:"), image, text("\nImage 2:"), image, text("\n---\nWhich one?")])],
    [("user", [image, text("What is it? ")]), ("assistant", [text(" A cat.")]), ("user", [text("Sure?")])],
]
cases = []
for path in sorted(glob.glob(here + "/templates/*.jinja")):
    for c in conversations:
        messages = [{"role": r, "content": p} for r, p in c]
        template = open(path).read()
        given = [dict(m) for m in messages]
        for m in given:  # as callers do where a template takes both
            if "is string" in template and image not in m["content"]:
                m["content"] = "".join(p["text"] for p in m["content"])
        try:
            out = render_jinja_template([given], chat_template=template, add_generation_prompt=True, bos_token="<bos>", eos_token="<eos>", date_string="26 Jul 2024")
            out = out[0][0]
        except Exception as e:
            print(os.path.basename(path), "refuses:", e)
            out = None
        cases.append({"template": os.path.basename(path), "messages": messages, "text": out})
        print(repr(out))
json.dump(cases, open(here + "/templates.json", "w"), indent=1, ensure_ascii=False)
