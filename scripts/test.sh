#!/usr/bin/env bash
# Every test, in two processes side by side: what mostly computes, beside what starts servers, waits and measures. The first gives way to
# the second, which has the benchmarks and the real engine at its end (tests/conftest.py), when it has the machine to itself.
# A test that is in neither list below is in the second process. The exit status is 0 when both are green.
set -euo pipefail
cd "$(dirname "$0")/.."

beside=(
    tests/attestation tests/docs tests/fuzz tests/helm tests/interop tests/mutation tests/scripts
    tests/server/attestor tests/server/cli tests/server/core tests/server/endpoints tests/server/export tests/server/licence
    tests/server/models tests/server/preflight tests/server/registrar tests/server/sizing
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
