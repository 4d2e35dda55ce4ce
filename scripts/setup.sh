#!/usr/bin/env bash
# Installs what is missing, and nothing twice.
#
#   scripts/setup.sh run     what `make run` needs: system packages, .venv with vLLM's CPU build and RLU
#   scripts/setup.sh test    that, the test and lint tools, the agent command lines that the tests drive, and the packages of the second verifier
#
# Environment:
#   PYTHON            interpreter to use (3.11, 3.12 or 3.13); otherwise the first found
#   RLU_TORCH_INDEX   package index that has PyTorch's CPU wheels, where your usual index has only the larger CUDA build
#
# The second run takes no time: a stamp in .venv holds the digest of everything this depends on.
set -euo pipefail

goal=${1:-run}
case $goal in run | test) ;; *) echo "usage: scripts/setup.sh run|test" >&2; exit 2 ;; esac
cd "$(dirname "$0")/.."
mkdir -p .cache
LOG=.cache/setup.log
: >"$LOG"
VENV=.venv
NPM=.cache/npm
INTEROP=tests/interop
SDKS=tests/e2e/javascript
AGENTS_SDK=.cache/agents-sdk
TORCH=torch==2.13.0
# Helm's own engine (47 MB), for the tests of the chart; it needs cffi, which the engine brings.
HELM=helm-sdkpy==0.1.32
# The agents that the end-to-end tests drive, exactly.
AGENTS=(@openai/codex@0.169.0 @anthropic-ai/claude-code@2.1.329 opencode-ai@1.18.33)
# OpenAI's Agents SDK lies apart: it asks for earlier websockets than the engine has. The rest of what it needs is in .venv.
AGENTS_SDK_PINS=(openai-agents==0.24.0 griffelib==2.4.1 websockets==16.1.1)
# OpenStack Swift, a real S3 service for the tests, lies apart too; what else it needs is in .venv.
SWIFT=.cache/swift
SWIFT_PINS=(swift==2.38.3 eventlet==0.41.3 greenlet==3.5.6 PasteDeploy==3.1.0 pyeclib==1.8.0 xattr==1.3.0)

steps=5
[ "$goal" = run ] || steps=8
step=0
began=$SECONDS

fail() { # what went wrong, what to do
    printf '\nset-up failed: %s\n' "$1" >&2
    [ ! -s "$LOG" ] || { echo "The last lines of $LOG:" >&2; tail -n 12 "$LOG" | sed 's/^/    /' >&2; }
    printf 'What to do: %s\n' "$2" >&2
    exit 1
}

# Runs a command with its output in the log, and shows that it is alive.
show() { # title, remedy, command...
    local title=$1 remedy=$2 start=$SECONDS beat=0 pid status=0
    shift 2
    step=$((step + 1))
    [ -t 1 ] || printf '[%d/%d] %s ...\n' "$step" "$steps" "$title"
    "$@" >>"$LOG" 2>&1 &
    pid=$!
    trap 'kill "$pid" 2>/dev/null || true; exit 130' INT TERM
    while kill -0 "$pid" 2>/dev/null; do
        sleep 0.2
        if [ -t 1 ]; then
            printf '\r\033[K[%d/%d] %s ... %ds  %.60s' "$step" "$steps" "$title" "$((SECONDS - start))" "$(tail -n 1 "$LOG" | tr -d '\r' | cut -c 1-60)"
        elif [ $((SECONDS - start)) -ge $((beat + 15)) ]; then
            beat=$((SECONDS - start))
            printf '      %s ... %ds\n' "$title" "$beat"
        fi
    done
    wait "$pid" || status=$?
    trap - INT TERM
    [ "$status" = 0 ] || fail "$title (exit status $status)" "$remedy"
    [ ! -t 1 ] || printf '\r\033[K'
    printf '[%d/%d] %s: %ds\n' "$step" "$steps" "$title" "$((SECONDS - start))"
}

suitable() { "$1" -c 'import sys; raise SystemExit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }

find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3.11 python3.12 python3.13 python3; do
        if command -v "$candidate" >/dev/null && suitable "$candidate"; then command -v "$candidate"; return; fi
        [ -z "${PYTHON:-}" ] || fail "PYTHON=$PYTHON is not Python 3.11, 3.12 or 3.13" "unset PYTHON, or name another interpreter"
    done
}

python_ready() { # ensurepip and the C headers come in packages of their own on Debian
    [ -n "$python" ] && "$python" -c 'import ensurepip, os, sysconfig, venv
raise SystemExit(not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")))' 2>/dev/null
}

# Debian packages that are missing, judged by what they provide, so that other distributions and self-built tools count too.
missing() {
    command -v swtpm >/dev/null || echo swtpm
    { command -v swtpm_setup && command -v swtpm_localca && command -v certtool; } >/dev/null || echo swtpm-tools gnutls-bin
    command -v cc >/dev/null || echo gcc libc6-dev
    if ! command -v pkg-config >/dev/null; then
        echo pkg-config libtss2-dev
    else
        pkg-config --exists tss2-esys tss2-mu tss2-rc tss2-tctildr tss2-fapi || echo libtss2-dev
    fi
    # Not `grep -q`: it would end early, and the broken pipe would count as a failure.
    /sbin/ldconfig -p 2>/dev/null | grep 'libnuma\.so\.1' >/dev/null || echo libnuma1
    if [ -z "$python" ]; then
        echo python3.11 python3.11-venv python3.11-dev
    elif ! python_ready; then
        local version
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        echo "python$version-venv" "python$version-dev"
    fi
    [ "$goal" != run ] || return 0
    command -v npm >/dev/null || echo npm
    command -v tpm2_checkquote >/dev/null || echo tpm2-tools # a second opinion on quotes
    command -v openssl >/dev/null || echo openssl
    command -v docker-registry >/dev/null || echo docker-registry # updates of models from a real registry
    [ -x /usr/sbin/mkfs.ext4 ] || command -v mkfs.ext4 >/dev/null || echo e2fsprogs # disk images that tests search and fill
}

system_packages() {
    local packages=$1 sudo=
    [ -n "$packages" ] || { echo "all present"; return; }
    [ "$(id -u)" = 0 ] || sudo="sudo -n"
    $sudo apt-get update || true # a stale list may still do
    # shellcheck disable=SC2086 # the list is words
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $packages
}

pip() { "$VENV/bin/python" -m pip --disable-pip-version-check install --progress-bar off --no-input "$@"; }

environment() {
    if [ -x "$VENV/bin/python" ] && ! suitable "$VENV/bin/python"; then rm -rf "$VENV"; fi
    [ -x "$VENV/bin/python" ] || "$python" -m venv "$VENV"
}

cuda_build() { ! grep -q '^cuda.*= None' "$VENV"/lib/python*/site-packages/torch/version.py; }

torch() {
    if [ -n "${RLU_TORCH_INDEX:-}" ]; then
        pip --index-url "$RLU_TORCH_INDEX" --no-deps "$TORCH"
    else
        pip --no-deps "$TORCH"
        # The CUDA build runs on a CPU too, but only with its libraries, which are another 3 GB.
        if cuda_build; then pip "$TORCH"; fi
    fi
}

engine() {
    pip --no-deps -r requirements/engine-cpu.txt
    # Their CUDA builds break transformers; an earlier or manual installation may have left them.
    "$VENV/bin/python" -m pip uninstall -y torchvision torchaudio torchcodec
}

project() {
    if [ "$goal" = test ]; then
        pip --no-deps -r requirements/server.txt -r requirements/dev.txt
        # Not in dev.txt: its metadata asks for a later Python than it needs.
        pip --no-deps --ignore-requires-python "$HELM"
    else
        pip --no-deps -r requirements/server.txt
    fi
    pip --no-deps --editable .
}

agents() { npm install --prefix "$NPM" --no-save --no-audit --no-fund --loglevel=error "${AGENTS[@]}"; }

agents_sdk() {
    rm -rf "$AGENTS_SDK"
    pip --no-deps --target "$AGENTS_SDK" "${AGENTS_SDK_PINS[@]}"
}

swift() {
    rm -rf "$SWIFT"
    pip --no-deps --target "$SWIFT" "${SWIFT_PINS[@]}"
}

sdks() { npm ci --prefix "$SDKS" --ignore-scripts --no-audit --no-fund --loglevel=error; }

second_verifier() { npm ci --prefix "$INTEROP" --ignore-scripts --no-audit --no-fund --loglevel=error; }

# npm's packages come while pip is at work. What npm says and how it ends is kept for `javascript`, the step that waits for it.
javascript_begins() {
    rm -f .cache/npm.status
    {
        local status=0
        { agents && sdks && second_verifier; } >.cache/npm.log 2>&1 || status=$?
        echo "$status" >.cache/npm.status.new
        mv .cache/npm.status.new .cache/npm.status
    } &
    npm_pid=$!
    trap 'kill "$npm_pid" 2>/dev/null || true' EXIT
}

javascript() {
    while [ ! -e .cache/npm.status ] && kill -0 "$npm_pid" 2>/dev/null; do sleep 0.2; done
    cat .cache/npm.log
    return "$(cat .cache/npm.status)"
}

stamp() { cat scripts/setup.sh requirements/*.txt pyproject.toml "$INTEROP/package-lock.json" "$SDKS/package-lock.json" <(echo "$PWD") <("$VENV/bin/python" --version 2>&1) | sha256sum | cut -d' ' -f1; }

up_to_date() { # a test environment is enough to run
    local for_goal now
    [ -x "$VENV/bin/rlu" ] || return 1
    now=$(stamp)
    for for_goal in "$goal" test; do
        [ "$(cat "$VENV/.rlu-setup-$for_goal" 2>/dev/null)" = "$now" ] || continue
        [ "$for_goal" = run ] || [ "$goal" = run ] || { [ -d "$NPM/node_modules" ] && [ -d "$INTEROP/node_modules" ] && [ -d "$SDKS/node_modules" ] && [ -d "$AGENTS_SDK" ] && [ -d "$SWIFT" ]; } || continue
        [ -z "$(missing)" ] || continue
        return 0
    done
    return 1
}

python=$(find_python)
if up_to_date; then
    echo "set-up: everything is in place"
    exit 0
fi

packages=$(missing | xargs)
if [ -n "$packages" ]; then
    command -v apt-get >/dev/null || fail "these are missing: $packages (as Debian names them)" "install what provides them with your system's package manager, then run this again"
    [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null ||
        fail "system packages are missing, and this user may not install them" "run: sudo apt-get update && sudo apt-get install -y --no-install-recommends $packages"
fi
show "system packages${packages:+ ($packages)}" "run by hand: apt-get install -y --no-install-recommends $packages" system_packages "$packages"
python=$(find_python)
[ -n "$python" ] || fail "no Python 3.11, 3.12 or 3.13 was found" "install one of them, or name it: make run PYTHON=/path/to/python3.11"

retry="check the network and the package index that pip is configured with (pip config list), then run this again"
[ "$goal" = run ] || javascript_begins
show "Python environment ($("$python" --version 2>&1))" "remove .venv and run this again" environment
show "PyTorch" "$retry; RLU_TORCH_INDEX names an index that has PyTorch's CPU wheels" torch
! cuda_build || echo "      Your package index has only PyTorch's CUDA build. It works, and is 3 GB larger than need be; to avoid that, set RLU_TORCH_INDEX to an index with its CPU wheels."
show "vLLM, CPU build (about 1 GB)" "$retry" engine
show "RLU" "$retry" project
[ "$goal" = run ] || show "OpenAI's Agents SDK" "$retry" agents_sdk
[ "$goal" = run ] || show "an S3 service for the tests (OpenStack Swift)" "$retry" swift
[ "$goal" = run ] || show "npm's packages for the tests (Codex CLI, Claude Code, opencode, SDKs, the second verifier's)" "check the network and the registry that npm is configured with, then run this again" javascript
stamp >"$VENV/.rlu-setup-$goal"
echo "set-up: done in $((SECONDS - began)) s"
