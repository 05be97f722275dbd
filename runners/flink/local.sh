#!/usr/bin/env bash
# local.sh up [DIR]           start a standalone Flink and a job server on free ports; DIR takes logs and pids
# local.sh down [DIR]         stop what up started
# local.sh taskmanager [DIR]  start one more TaskManager, as after one was lost
#
# up prints the engine settings to use. It needs Java 11 or later, python3 with pip, and for the stand-in job server
# Maven; no container engine. Downloads stay in PROMPTMILL_CACHE (default ~/.cache/promptmill/flink), pinned.
#
# The job server is Beam's own if one of these names it, else the stand-in for tests (testserver/README.md):
#   JOB_SERVER_JAR=/path/beam-runners-flink-1.20-job-server.jar
#   JOB_SERVER_MAVEN=org.apache.beam:beam-runners-flink-1.20-job-server:2.77.0
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
what=${1:-}
run=${2:-${TMPDIR:-/tmp}/promptmill-flink}
# shellcheck source=runners/processes.sh
. "$here/../processes.sh"
cache=${PROMPTMILL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/promptmill/flink}
version=1.20.5
lib=$cache/apache_flink_libraries-$version/deps/lib
beam=$cache/beam
server=$cache/testserver

# Java 17 hides from Flink and Beam what they look into.
opens=()
for p in java.lang java.lang.invoke java.lang.reflect java.net java.io java.nio java.text java.time java.util \
	java.util.concurrent java.util.concurrent.atomic java.util.concurrent.locks sun.nio.ch; do
	opens+=("--add-opens=java.base/$p=ALL-UNNAMED")
done
opens+=("--add-exports=java.base/sun.net.util=ALL-UNNAMED" "-Dlog4j.configurationFile=$here/conf/log4j.properties")

# A TaskManager started by its class has to be told what Flink's scripts work out from the process size.
memory=(
	-D taskmanager.cpu.cores=4.0
	-D taskmanager.memory.task.heap.size=384m -D taskmanager.memory.task.off-heap.size=0m
	-D taskmanager.memory.framework.heap.size=128m -D taskmanager.memory.framework.off-heap.size=128m
	-D taskmanager.memory.network.min=256m -D taskmanager.memory.network.max=256m
	-D taskmanager.memory.managed.size=256m -D taskmanager.memory.jvm-metaspace.size=256m
	-D taskmanager.memory.jvm-overhead.min=192m -D taskmanager.memory.jvm-overhead.max=192m
)

need() {
	command -v "$1" >/dev/null || { echo "local.sh: $1 is missing: $2" >&2; exit 1; }
}

fetch() {
	need java "install a JDK, 11 or later"
	need python3 "its pip fetches Flink"
	mkdir -p "$cache"
	if [ ! -d "$lib" ]; then
		echo "local.sh: fetching Flink $version (230 MB)" >&2
		python3 -m pip download -q --no-deps --no-binary apache-flink-libraries --require-hashes -r "$here/requirements.txt" -d "$cache" ||
			{ echo "local.sh: Flink cannot be fetched" >&2; exit 1; }
		tar xzf "$cache/apache_flink_libraries-$version.tar.gz" -C "$cache"
	fi
	if [ -n "${JOB_SERVER_MAVEN:-}" ] && [ -z "${JOB_SERVER_JAR:-}" ]; then
		need mvn "it fetches JOB_SERVER_MAVEN"
		mvn -q -B dependency:copy -Dartifact="$JOB_SERVER_MAVEN" -DoutputDirectory="$cache/official" -Dmdep.useBaseVersion=true
		IFS=: read -r _ name ver <<<"$JOB_SERVER_MAVEN"
		JOB_SERVER_JAR=$cache/official/$name-$ver.jar
	fi
	[ -n "${JOB_SERVER_JAR:-}" ] || build_testserver
}

# Beam's harness libraries and the stand-in, again if its sources are newer.
build_testserver() {
	need javac "install a JDK, 11 or later"
	if [ ! -e "$beam/.done" ]; then
		need mvn "it fetches Beam's Java libraries"
		mvn -q -B -f "$here/testserver/pom.xml" dependency:copy-dependencies -DoutputDirectory="$beam" -DincludeScope=runtime
		touch "$beam/.done"
	fi
	local sum
	sum=$(cat "$here"/testserver/src/promptmill/*.java "$here/testserver/pom.xml" | cksum)
	[ "$(cat "$server/sum" 2>/dev/null)" = "$sum" ] && return
	rm -rf "$server"
	mkdir -p "$server/META-INF/services"
	javac -nowarn -cp "$lib/*:$beam/*" -d "$server" "$here"/testserver/src/promptmill/*.java
	echo promptmill.ReshuffleIsNative >"$server/META-INF/services/org.apache.beam.sdk.util.construction.NativeTransforms\$IsNativeTransform"
	echo "$sum" >"$server/sum"
}

free_ports() {
	python3 - "$1" <<'PY'
import socket, sys
held = [socket.socket() for _ in range(int(sys.argv[1]))]
for s in held:
    s.bind(("localhost", 0))
print(*[s.getsockname()[1] for s in held])
PY
}

# Beam's classes are in Flink's class path, as conf/config.yaml wants it.
classes() {
	if [ -n "${JOB_SERVER_JAR:-}" ]; then echo "$lib/*:$JOB_SERVER_JAR"; else echo "$lib/*:$server:$beam/*"; fi
}

taskmanager() {
	read -r rpc rest job <"$run/ports"
	start "taskmanager-$$" java "${opens[@]}" -Xms512m -Xmx512m -XX:MaxDirectMemorySize=384m -XX:MaxMetaspaceSize=256m -cp "$(classes)" \
		org.apache.flink.runtime.taskexecutor.TaskManagerRunner --configDir "$here/conf" \
		-D jobmanager.rpc.port="$rpc" -D rest.port="$rest" "${memory[@]}"
}

slots() { curl -sf "http://localhost:$1/overview" | grep -q '"slots-total":[1-9]'; }

up() {
	need curl "it asks Flink whether it is up"
	[ ! -e "$run/pids" ] || { echo "local.sh: $run is up already, or was not stopped: run $0 down $run" >&2; exit 1; }
	fetch >&2 # Maven writes colours even when it is quiet; what up prints is read by programs
	mkdir -p "$run/log"
	trap down EXIT # of a part that did not come up
	read -r rpc rest job <<<"$(free_ports 3)"
	echo "$rpc $rest $job" >"$run/ports"
	start jobmanager java "${opens[@]}" -Xmx512m -XX:MaxMetaspaceSize=256m -cp "$(classes)" \
		org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint --configDir "$here/conf" \
		-D jobmanager.rpc.port="$rpc" -D rest.port="$rest"
	if [ -n "${JOB_SERVER_JAR:-}" ]; then
		start jobserver java "${opens[@]}" -Xmx1g -jar "$JOB_SERVER_JAR" --flink-master="localhost:$rest" \
			--job-host=localhost --job-port="$job" --artifact-port=0 --expansion-port=0
	else
		start jobserver java "${opens[@]}" -Xmx1g -cp "$(classes)" promptmill.TestServer localhost "$rest" "$job" "$run/staged"
	fi
	wait_for 90 "Flink's JobManager" curl -sf "http://localhost:$rest/overview"
	taskmanager
	wait_for 90 "Flink's TaskManager" slots "$rest"
	wait_for 60 "the job server" bash -c "exec 3<>/dev/tcp/localhost/$job"
	trap - EXIT
	echo "endpoint=localhost:$job rest_url=http://localhost:$rest"
}

case $what in
up) up ;;
down) down ;;
taskmanager) fetch; taskmanager ;;
*) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; exit 2 ;;
esac
