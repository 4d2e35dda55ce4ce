#!/usr/bin/env bash
# Every test, in two processes side by side: rooms that compute, or wait for one process or two, beside those that start whole servers and
# measure. The first gives way to the second, which has the benchmarks and the real engine at its end (tests/conftest.py), when it has the
# machine to itself. A test that is not in the list below is in the second process. The exit status is 0 when both are green.
set -euo pipefail
cd "$(dirname "$0")/.."

beside=(
    tests/attestation tests/docs tests/fuzz tests/helm tests/interop tests/mutation tests/scripts
    tests/server/adapters tests/server/attestor tests/server/boundary tests/server/broker tests/server/cli tests/server/cluster
    tests/server/core tests/server/doctor tests/server/endpoints tests/server/export tests/server/keyring tests/server/licence
    tests/server/models tests/server/outreach tests/server/preflight tests/server/registrar tests/server/sizing tests/server/telemetry
    tests/server/updates
)
python=.venv/bin/python
mkdir -p .cache
log=.cache/tests-beside.log
printf 'beside, and shown at the end (%s): %s\n' "$log" "${beside[*]}"

nice -n 5 "$python" -m pytest -p no:cacheprovider "${beside[@]}" >"$log" 2>&1 &
other=$!
trap 'kill "$other" 2>/dev/null || true; wait "$other" || true' EXIT

status=0
"$python" -m pytest "${beside[@]/#/--ignore=}" || status=$?
beside_status=0
wait "$other" || beside_status=$?
trap - EXIT
cat "$log"
[ "$status" = 0 ] || printf 'the tests above "%s" failed: exit status %d\n' "$log" "$status"
exit "$((status ? status : beside_status))"
