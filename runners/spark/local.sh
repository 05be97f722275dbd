#!/usr/bin/env bash
# local.sh up [DIR]    start a standalone Spark and Beam's job server on free ports; DIR takes logs and pids
# local.sh down [DIR]  stop what up started
#
# up prints the engine settings to use. It needs Java 11 or 17 and python3 with pip; no container engine. Spark 3.5.9
# comes from PyPI (320 MB), pinned, and stays in PROMPTMILL_CACHE (default ~/.cache/promptmill/spark).
#
# Beam's job server is not on PyPI: name it by one of these. There is no stand-in for Spark.
#   JOB_SERVER_JAR=/path/beam-runners-spark-3-job-server.jar
#   JOB_SERVER_MAVEN=org.apache.beam:beam-runners-spark-3-job-server:2.77.0
# SPARK_MASTER='local[2,4]' runs Spark inside the job server instead: 2 threads, and 4 tries of a task.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
what=${1:-}
run=${2:-${TMPDIR:-/tmp}/promptmill-spark}
# shellcheck source=runners/processes.sh
. "$here/../processes.sh"
cache=${PROMPTMILL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/promptmill/spark}
version=3.5.9
jars=$cache/pyspark-$version/deps/jars

# Java 17 hides from Spark what it looks into.
java=(java -Djdk.reflect.useDirectMethodHandle=false)
for p in java.lang java.lang.invoke java.lang.reflect java.io java.net java.nio java.util java.util.concurrent \
	java.util.concurrent.atomic sun.nio.ch sun.nio.cs sun.security.action sun.util.calendar; do
	java+=("--add-opens=java.base/$p=ALL-UNNAMED")
done

job_server() {
	if [ -n "${JOB_SERVER_MAVEN:-}" ] && [ -z "${JOB_SERVER_JAR:-}" ]; then
		mvn -q -B dependency:copy -Dartifact="$JOB_SERVER_MAVEN" -DoutputDirectory="$cache/official" -Dmdep.useBaseVersion=true
		IFS=: read -r _ name ver <<<"$JOB_SERVER_MAVEN"
		JOB_SERVER_JAR=$cache/official/$name-$ver.jar
	fi
	[ -f "${JOB_SERVER_JAR:-}" ] || { echo "local.sh: Beam's job server is missing: set JOB_SERVER_JAR or JOB_SERVER_MAVEN" >&2; exit 1; }
}

up() {
	[ ! -e "$run/pids" ] || { echo "local.sh: $run is up already, or was not stopped: run $0 down $run" >&2; exit 1; }
	mkdir -p "$cache" "$run/log"
	job_server >&2 # Maven writes colours even when it is quiet; what up prints is read by programs
	if [ ! -d "$jars" ]; then
		echo "local.sh: fetching Spark $version (320 MB)" >&2
		python3 -m pip download -q --no-deps --no-binary pyspark --require-hashes -r "$here/requirements.txt" -d "$cache" >&2
		tar xzf "$cache/pyspark-$version.tar.gz" -C "$cache"
	fi
	trap down EXIT # of a part that did not come up
	read -r port ui wui job <<<"$(python3 - <<'PY'
import socket
held = [socket.socket() for _ in range(4)]
for s in held:
    s.bind(("localhost", 0))
print(*[s.getsockname()[1] for s in held])
PY
	)"
	local master=${SPARK_MASTER:-spark://localhost:$port}
	if [ -z "${SPARK_MASTER:-}" ]; then
		start master "${java[@]}" -Xmx512m -cp "$jars/*" org.apache.spark.deploy.master.Master --host localhost --port "$port" --webui-port "$ui"
		wait_for 60 "Spark's master" curl -sf "http://localhost:$ui/json/"
		start worker "${java[@]}" -Xmx512m -cp "$jars/*" org.apache.spark.deploy.worker.Worker --host localhost --cores 4 --memory 2g \
			--webui-port "$wui" --work-dir "$run/work" "$master"
		wait_for 60 "Spark's worker" bash -c "curl -sf http://localhost:$ui/json/ | grep -q '\"aliveworkers\" : 1'"
	fi
	# A task is tried four times, or a lost worker ends the job; environment_cache_millis has to be 0 on Spark.
	start jobserver "${java[@]}" -Xmx1500m -Dspark.task.maxFailures=4 -Dspark.ui.enabled=false -Dspark.driver.host=localhost \
		-cp "$JOB_SERVER_JAR:$jars/*" org.apache.beam.runners.spark.SparkJobServerDriver --spark-master-url="$master" \
		--job-host=localhost --job-port="$job" --artifact-port=0 --expansion-port=0 --artifacts-dir="$run/staged"
	wait_for 60 "the job server" bash -c "exec 3<>/dev/tcp/localhost/$job"
	trap - EXIT
	echo "endpoint=localhost:$job"
}

case $what in
up) up ;;
down) down ;;
*) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; exit 2 ;;
esac
