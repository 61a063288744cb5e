#!/bin/sh
# Looks at everything in deploy/ with its own tools: `make deploy-check`, which puts them on PATH. Needs no cluster, no
# daemon and no network. What this machine does not have is said, and skipped.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

check() { # NAME COMMAND…: its output is shown where it fails
	name=$1
	shift
	if "$@" >"$work/out" 2>&1; then
		echo "ok       $name"
	else
		echo "FAILED   $name"
		sed 's/^/         /' "$work/out"
		failed=1
	fi
}

check "Dockerfile: hadolint" hadolint Dockerfile
check "shell scripts: shellcheck" shellcheck image/entrypoint.sh check.sh
check "compose.yaml: its schema" check-jsonschema --builtin-schema vendor.compose-spec compose.yaml

for folder in kubernetes/base kubernetes/overlay.example; do
	rendered=$work/$(echo "$folder" | tr / -).yaml
	check "$folder: kustomize" sh -c "kubectl kustomize $folder >$rendered"
	check "$folder: kubernetes-validate --strict" kubernetes-validate --strict "$rendered"
done
check "secrets.example.yaml: kubernetes-validate --strict" kubernetes-validate --strict kubernetes/secrets.example.yaml

if command -v haproxy >/dev/null; then
	check "haproxy.cfg: haproxy -c" haproxy -c -f kubernetes/base/haproxy.cfg
else
	echo "skipped  haproxy.cfg: no haproxy here"
fi

if command -v systemd-analyze >/dev/null; then
	# Its program need not be installed here: any will do, as long as there is one.
	mkdir "$work/units"
	for unit in systemd/*.service systemd/*.timer; do
		sed 's#/opt/rankline/bin/rankline#/bin/true#; s#^EnvironmentFile=.*##' "$unit" >"$work/units/${unit##*/}"
	done
	check "systemd units: systemd-analyze verify" sh -c "SYSTEMD_UNIT_PATH=$work/units: systemd-analyze verify $work/units/*"
	for day in $(sed -n 's/^OnCalendar=//p' systemd/*.timer | tr ' ' '_'); do
		check "systemd timers: $(echo "$day" | tr _ ' ')" systemd-analyze calendar "$(echo "$day" | tr _ ' ')"
	done
else
	echo "skipped  systemd units: no systemd-analyze here"
fi

exit "$failed"
