#!/bin/sh
# A stand-in for a trainer: trainer.sh CASE DATA OUTPUT [--resume_from_checkpoint FOLDER]
# It prints what Hugging Face's Trainer prints, writes checkpoint-N as it does (trainer_state.json last),
# and its weights are a function of the data and the number of steps.
case=$1 data=$2 output=$3
echo begun >>"$output/../begun"
step=0
[ "$4" = --resume_from_checkpoint ] && step=$(cat "$5/trainer_state.json" | tr -cd '0-9 ' | awk '{print $1}')
[ -z "$(ls "$data")" ] && { echo "ValueError: no data" >&2; exit 1; }
[ "$case" = bad_data ] && { printf 'Traceback (most recent call last):\n  in collate\nKeyError: '"'chosen'"'\n' >&2; exit 1; }
[ "$case" = nothing ] && exit 0
steps=4 pause=0.01
[ "$case" = slow ] && steps=12 pause=0.1
[ "$case" = deaf ] && { trap '' TERM; steps=600 pause=0.1; }
[ "$case" = family ] && { (echo $$ >"$output/../parent"; exec sleep 600) & echo $! >"$output/../child"; }

weights() { # weights STEP FOLDER: safetensors with one tensor of four bytes
	header='{"w":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}'
	printf "\\$(printf %03o ${#header})\\000\\000\\000\\000\\000\\000\\000%s%04d" "$header" "$1" >"$2/model.safetensors"
}

while [ $step -lt $steps ]; do
	sleep $pause
	step=$((step + 1))
	loss=0.$((900 - step * 10))
	exact=$loss
	[ "$case" = diverges ] && [ $step -gt 2 ] && loss=nan exact=NaN
	printf '\r %d%%|###   | %d/%d [00:01<00:01,  1.00it/s]' $((step * 100 / steps)) $step $steps >&2
	printf "\n{'loss': '%s', 'grad_norm': '1.5', 'rewards/margins': '0.25', 'epoch': '0.5'}\n" $loss
	if [ $((step % 4)) = 0 ]; then
		mkdir -p "$output/checkpoint-$step"
		weights $step "$output/checkpoint-$step"
		echo "{\"global_step\": $step, \"max_steps\": $steps, \"log_history\": [{\"loss\": $exact}]}" | tr -d '\n' >"$output/checkpoint-$step/trainer_state.json"
	fi
done
[ "$case" = diverges ] || weights $steps "$output"
echo "token is $STAND_IN_TOKEN"
[ "$case" = leaky ] && exit 3
exit 0
