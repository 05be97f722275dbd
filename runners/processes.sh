# shellcheck shell=bash
# What the local.sh of the engines have in common: the processes of a cluster on this machine. They source it with run set
# to the folder that takes logs and pids; up makes run/log before it starts anything.
: "${run:?}"

# wait_for SECONDS WHAT COMMAND...: until the command succeeds
wait_for() {
	local end=$((SECONDS + $1)) what=$2
	shift 2
	until "$@" >/dev/null 2>&1; do
		((SECONDS < end)) || { echo "local.sh: $what did not come up; see $run/log" >&2; exit 1; }
		sleep 0.2
	done
}

# start NAME COMMAND...: in the background, with log and pid in run
start() {
	local name=$1
	shift
	(
		# A pipe or a lock of the caller's would be kept as long as the cluster lives.
		for fd in /proc/"$BASHPID"/fd/*; do
			((${fd##*/} <= 2)) || eval "exec ${fd##*/}>&-"
		done
		exec setsid "$@" >"$run/log/$name.log" 2>&1 </dev/null
	) &
	echo $! >>"$run/pids"
}

# down: stop what start started; what does not go within five seconds is killed
down() {
	[ -e "$run/pids" ] || return 0
	local pid
	while read -r pid; do
		kill "$pid" 2>/dev/null || true
	done <"$run/pids"
	while read -r pid; do
		for _ in {1..50}; do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
		kill -9 "$pid" 2>/dev/null || true
	done <"$run/pids"
	rm -f "$run/pids" "$run/ports" # Flink's TaskManagers find the others by their ports
}
