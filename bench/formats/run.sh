#!/bin/sh
# Builds the demo's sets, with the procedural world as models, and loads them with datasets, pyarrow and DuckDB. The environment is kept in
# FORMATS_ENV (default: promptmill-formats in the user's cache), so that only the first run fetches it.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
env=${FORMATS_ENV:-${XDG_CACHE_HOME:-$HOME/.cache}/promptmill-formats}
if ! cmp -s "$here/requirements.txt" "$env/requirements.txt"; then
	python3 -m venv --clear "$env"
	"$env/bin/pip" install --quiet -r "$here/requirements.txt"
	cp "$here/requirements.txt" "$env/requirements.txt"
fi
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
for set in sft evaluation judgment "preference --set select.prompts=12 --set judgment_pairs.asked=24"; do
	# shellcheck disable=SC2086 # a set and its settings
	"$here/../../bin/promptmill" $set --recipe demo --models scene --out "$dir/out" --quiet >/dev/null
done
HF_HOME="$dir/hf" "$env/bin/python" "$here/load.py" "$dir/out" sft evaluation judgment preference
