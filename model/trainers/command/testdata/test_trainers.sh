#!/bin/sh
# Runs the tests against real TRL and real LLaMA-Factory on the CPU (make test-trainers). The virtual
# environments and tiny random models go to $TRAINERS, about 12 GB, where they stay for the next time.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
trainers=${TRAINERS:-${XDG_CACHE_HOME:-$HOME/.cache}/promptmill-trainers}
mkdir -p "$trainers"

install() { # install NAME PACKAGES...
	[ -e "$trainers/$1/installed" ] && return
	python3 -m venv "$trainers/$1"
	venv=$1
	shift
	"$trainers/$venv/bin/pip" install -q "$@"
	touch "$trainers/$venv/installed"
}
install trl trl==1.16.0 transformers==5.23.0 torch==2.15.0 torchvision pillow
# It pins neither of the last two and runs with no newer ones.
install lf llamafactory==0.9.5 torch==2.11.0 torchaudio==2.11.0

[ -e "$trainers/tiny/vision" ] || "$trainers/trl/bin/python" "$here/make_tiny.py" "$trainers/tiny"
# The demo's sets, with the procedural world as models, are built anew.
rm -rf "$trainers/sets"
for set in sft evaluation judgment "preference --set select.prompts=12 --set judgment_pairs.asked=24"; do
	# shellcheck disable=SC2086 # a set and its settings
	"$here/../../../../bin/promptmill" $set --recipe demo --models scene --out "$trainers/sets" --quiet >/dev/null
done
export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 HF_HOME="$trainers/home" CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=1
cd "$here/.."
PROMPTMILL_TRAINERS=$trainers exec go test -count=1 -timeout 30m -v -run 'TestReal' .
