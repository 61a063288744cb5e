#!/bin/sh
# The entry point of the image. Its argument is a command of rankline, `serve` if there is none: serve, train, score,
# nightly, key, ship, … Besides:
#
#   before-stop                   ships this host's new interactions: for a preStop hook
#   schedule DAYS HH:MM COMMAND   runs a command of rankline at that time (UTC), on `daily` or on days such as Mon,Thu
#   mlflow …                      MLflow's own command, such as its server
#
# Read from the environment, besides what rankline reads:
#   RANKLINE_KEYS_FILE            a keys.json to serve with, such as a mounted secret; looked at every five seconds
#   RANKLINE_LAST_SHIP_SECONDS    how long `serve` tries to ship what is left when it has ended (60)
set -eu

say() {
	echo "rankline-entrypoint: $*" >&2
}

# The compiled kernels of the image, to where numba may write: it takes none from a folder that it can't write to.
# Each version of the kernels has a folder of its own; what another type of CPU needs is added there.
copy_kernels() {
	for from in /opt/rankline/kernels/*/; do
		[ -d "$from" ] || continue
		from=${from%/}
		to=$NUMBA_CACHE_DIR/${from##*/}
		if [ -d "$to" ]; then continue; fi
		if mkdir -p "$NUMBA_CACHE_DIR" 2>/dev/null && partial=$(mktemp -d "$NUMBA_CACHE_DIR/.copy.XXXXXX" 2>/dev/null) &&
			cp -R "$from/." "$partial"; then
			# Another container that shares the volume may have been faster.
			mv -T "$partial" "$to" 2>/dev/null || rm -rf "$partial"
		else
			say "$NUMBA_CACHE_DIR can't be written: the kernels are compiled anew (some ten seconds)"
		fi
	done
}

# The file must be its user's alone, which a mounted secret is not (fsGroup): so it is copied.
install_keys() {
	[ -n "${RANKLINE_KEYS_FILE-}" ] || return 0
	cmp -s "$RANKLINE_KEYS_FILE" "$RANKLINE_LIVE_DIR/keys.json" && return 0
	mkdir -p "$RANKLINE_LIVE_DIR"
	copy=$(mktemp "$RANKLINE_LIVE_DIR/.keys.XXXXXX")
	cp "$RANKLINE_KEYS_FILE" "$copy"
	chmod 0600 "$copy"
	mv -f "$copy" "$RANKLINE_LIVE_DIR/keys.json"
	say "the keys of $RANKLINE_KEYS_FILE hold from now on"
}

# Whether there is a log to ship, and a server to ship it to. An embedded warehouse is read by who opens it.
has_to_ship() {
	case "${RANKLINE_WAREHOUSE-}" in
	'' | chdb:*) return 1 ;;
	*) [ -e "$RANKLINE_LIVE_DIR/interactions.db" ] ;;
	esac
}

# What came in while it stopped. Nothing is lost where this fails: the log stays on the volume.
ship_the_rest() {
	has_to_ship || return 0
	until=$(($(date +%s) + ${RANKLINE_LAST_SHIP_SECONDS:-60}))
	while left=$((until - $(date +%s))) && [ "$left" -gt 0 ]; do
		shipped=0
		timeout "$left" rankline ship || shipped=$?
		case $shipped in
		0) return 0 ;;
		4 | 124) sleep 2 ;; # the server can't be used just now
		*) break ;;
		esac
	done
	say "new interactions were not all shipped: they stay in $RANKLINE_LIVE_DIR/interactions.db"
}

# Waits for a process, and sets status. A signal that is trapped ends `wait`, and not the process.
await() {
	status=0
	wait "$1" || status=$?
	while kill -0 "$1" 2>/dev/null; do
		status=0
		wait "$1" || status=$?
	done
}

# As process 1 of a container a program gets no SIGTERM that it has no handler for. A child of process 1 does.
run() {
	if [ $$ -ne 1 ]; then exec "$@"; fi
	exec 3<&0
	"$@" <&3 3<&- &
	child=$!
	trap 'kill -TERM "$child" 2>/dev/null || :' TERM INT
	await "$child"
	exit "$status"
}

serve() {
	install_keys
	rankline serve "$@" &
	service=$!
	trap 'kill -TERM "$service" 2>/dev/null || :' TERM
	trap 'kill -INT "$service" 2>/dev/null || :' INT
	if [ -n "${RANKLINE_KEYS_FILE-}" ]; then
		while sleep 5; do install_keys || :; done &
		watch=$!
	fi
	await "$service"
	ended=$status
	if [ -n "${watch-}" ]; then kill "$watch" 2>/dev/null || :; fi
	ship_the_rest
	exit "$ended"
}

# Runs until it is told to stop. A server that can't be used (status 4) is tried again three times.
schedule() {
	case "${2-}" in
	[01][0-9]:[0-5][0-9] | 2[0-3]:[0-5][0-9]) ;;
	*)
		say "schedule DAYS HH:MM COMMAND…, such as: schedule Mon,Tue,Wed 02:00 nightly --json"
		exit 2
		;;
	esac
	days=$1 hour=${2%:*} minute=${2#*:}
	shift 2
	child=
	trap 'if [ -n "$child" ]; then kill -TERM "$child" 2>/dev/null || :; wait "$child" || :; fi; exit 143' TERM INT
	while :; do
		now=$(date -u +%s)
		next=$((now - now % 86400 + ${hour#0} * 3600 + ${minute#0} * 60))
		if [ "$next" -le "$now" ]; then next=$((next + 86400)); fi
		case ",$days," in
		,daily, | *,"$(date -u -d "@$next" +%a)",*) say "$1 runs at $(date -u -d "@$next" '+%a %F %R') UTC" ;;
		*) ;;
		esac
		sleep "$((next - now))" &
		child=$!
		wait "$child"
		case ",$days," in
		,daily, | *,"$(date -u +%a)",*) run_job "$@" ;;
		*) ;;
		esac
	done
}

run_job() {
	for pause in 600 600 600 0; do
		status=0
		rankline "$@" &
		child=$!
		wait "$child" || status=$?
		say "$1 ended with status $status"
		if [ "$status" -ne 4 ] || [ "$pause" -eq 0 ]; then return 0; fi
		sleep "$pause" &
		child=$!
		wait "$child"
	done
}

copy_kernels
command=${1:-serve}
if [ $# -gt 0 ]; then shift; fi
case "$command" in
serve)
	for argument in "$@"; do
		case "$argument" in -h | --help | --help-all) exec rankline serve "$@" ;; *) ;; esac
	done
	serve "$@"
	;;
before-stop) if has_to_ship; then exec rankline ship; fi ;;
schedule) schedule "$@" ;;
mlflow) run mlflow "$@" ;;
*) run rankline "$command" "$@" ;;
esac
