package recipe

import (
	"regexp"
	"strings"
)

// secretKeys are the keys whose values are secrets, whatever they look like.
var secretKeys = regexp.MustCompile(`(?i)^(?:(?:api|access|secret|private|auth)[-_]?key|(?:(?:access|auth|api|bearer|hf|refresh|session)[-_]?)?token|` +
	`password|passwd|passphrase|(?:client[-_]?)?secret|secret[-_]?access[-_]?key|authorization|credentials?)$`)

// secretTexts are the forms of keys that are known by sight, and URLs that carry one.
var secretTexts = regexp.MustCompile(`\bsk-[\w-]*\d[\w-]{5,}|\bsk-[\w-]{20,}|\bhf_\w{8,}|\b(?:AKIA|ASIA)[0-9A-Z]{12,}|\bgh[pousr]_\w{8,}|\bgithub_pat_\w{8,}|` +
	`\bxox[abprs]-[\w-]{8,}|\bAIza[\w-]{20,}|\bglpat-[\w-]{8,}|\bnvapi-[\w-]{8,}|\beyJ[\w-]{8,}\.[\w-]{8,}|-----BEGIN [A-Z ]*PRIVATE KEY|` +
	`(?i:\bbearer\s+[\w.~+/-]{16,})|` +
	`\b[A-Za-z][\w+.-]*://[^/\s?#@]+@|` +
	`(?i:[?&](?:api[-_]?key|key|token|access[-_]?token|auth|password|secret|sig|signature|x-amz-signature|x-amz-security-token|x-goog-signature)=[^&\s])`)

// references are how a recipe names a secret instead of holding it.
var references = regexp.MustCompile(`^(?:env:[A-Za-z_][A-Za-z0-9_]*|file:\S.*)$`)

func secretKey(key string) bool   { return secretKeys.MatchString(key) }
func secretText(text string) bool { return secretTexts.MatchString(text) }
func reference(text string) bool  { return references.MatchString(text) }

// secrets refuses every secret that stands in the clear, in values, keys and comments. No fault shows
// one.
func (d *Document) secrets() error {
	const refer = "write env:NAME or file:PATH instead, and replace the secret"
	var fs faults
	var visit func(n *node, name string, secret bool)
	visit = func(n *node, name string, secret bool) {
		switch {
		case secretText(n.text):
			fs.add(n.at, "%s holds a secret in the clear; %s", name, refer)
		case secret && n.kind != nullKind && n.kind < listKind && n.text != "" && !reference(n.text):
			fs.add(n.at, "%s is a secret in the clear; %s", name, refer)
		}
		for _, e := range n.entries {
			switch {
			case n.kind == listKind:
				visit(e.value, name, secret)
			case secretText(e.key):
				fs.add(e.at, "a key of the recipe is a secret in the clear; %s", refer)
			default:
				visit(e.value, strings.TrimPrefix(name+"."+e.key, "."), secretKey(e.key))
			}
		}
	}
	visit(d.root, "", false)
	for _, r := range d.remarks {
		if secretText(r.text) {
			fs.add(r.at, "a comment holds a secret in the clear; take it out, and replace the secret")
		}
	}
	return fs.err(d.name)
}
